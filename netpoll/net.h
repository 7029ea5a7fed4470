// Connections, by TCP and Unix sockets, for goroutines and threads: calls look blocking and block
// nobody else.
//
//   absl::StatusOr<weft::Listener> listener = weft::Listen("tcp", "127.0.0.1:0");
//   weft::Go([l = *listener] {
//     for (auto c = l.Accept(); c.ok(); c = l.Accept()) weft::Go([c = *c] { Serve(c); });
//   });
//
//   absl::StatusOr<weft::Conn> c = weft::Dial("tcp", "example.org:80", {.timeout =
//   absl::Seconds(5)}); c->Write("GET / HTTP/1.0\r\n\r\n"); char buffer[4096]; while (true) {
//     absl::StatusOr<size_t> n = c->Read(absl::MakeSpan(buffer));
//     if (!n.ok() || *n == 0) break;  // an error, or the end of the stream
//     ...
//   }
//
// A call that has to wait parks its goroutine in the netpoller, or blocks its thread where it is
// called from a plain one. Both kinds may use one connection in any mix.
//
// Conn and Listener are handles, like a shared_ptr: copies mean the same socket, and the last one
// closes it. Their operations are const, so that a lambda can hold one by value, and safe to call
// from many goroutines and threads at once on one handle or on several:
// - One Read and one Write go on side by side. Several of a kind take turns, so what one Write
// writes
//   stays together.
// - Close() may come at any time. It ends the calls that wait with an IsClosed() error; the
//   descriptor goes back to the system only when the last call has left it, so no call can hit a
//   descriptor number that has been given to somebody else.
// - Deadlines may be moved at any time, also for calls that wait already.
// Only assigning to a handle while another thread uses that very handle object is a race, as with
// any C++ value.
//
// Nothing here allocates memory in steady state: not a Read, not a Write, not a wait, not a
// deadline. Errors do; see error.h for their texts, IsTimeout() and IsClosed().
//
// None of this may be called from signal handlers, timer callbacks or pollers.
#ifndef WEFT_NETPOLL_NET_H_
#define WEFT_NETPOLL_NET_H_

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "netpoll/address.h"
#include "netpoll/error.h"
#include "netpoll/socket_control.h"
#include "sched/sync/internal/interruption.h"

namespace weft {

namespace internal {
class NetFd;
struct NetAccess;
}  // namespace internal

// Probes of an idle connection, so that a peer that vanished is noticed. The defaults are Go's.
struct KeepAlive {
  bool enabled = true;
  absl::Duration idle = absl::Seconds(15);      // until the first probe; whole seconds, rounded up
  absl::Duration interval = absl::Seconds(15);  // between probes; the same
  int count = 9;                                // unanswered probes that end the connection
};

struct DialOptions {
  // How long all of it may take, name lookup included.
  absl::Duration timeout = absl::InfiniteDuration();
  // The same as a point in time. The earlier of the two holds.
  absl::Time deadline = absl::InfiniteFuture();
  KeepAlive keep_alive = {};
  // This end's address, of the network's kind; its port may be 0. Empty: the system chooses.
  SocketAddress local_address = {};
  // Where a name has several addresses: how long one is tried before the next one is tried beside
  // it (RFC 8305, Happy Eyeballs). The first that answers is taken. Infinite: one after the other,
  // with the time shared among those still to be tried, at least two seconds each.
  absl::Duration attempt_delay = absl::Milliseconds(250);
  SocketControl control = {};
};

struct ListenOptions {
  // Connections that wait to be accepted; 0: as many as the system allows (net.core.somaxconn).
  int backlog = 0;
  // SO_REUSEPORT: several listeners, also of several processes, share the port and the system
  // spreads connections over them.
  bool reuse_port = false;
  // For the connections that are accepted.
  KeepAlive keep_alive = {};
  SocketControl control = {};
};

// One connection: of "tcp", "unix" (a stream between processes of this machine), or "unixpacket"
// (the same, but each Write is one message, and each Read takes one, dropping what does not fit).
class Conn {
 public:
  // A connection to nothing: every operation fails with an IsClosed() error.
  Conn() = default;

  // Reads what is there into `buffer`, waiting until there is something: 1 to buffer.size() bytes.
  // Returns how many; 0 is the end of the stream (the peer has closed its side, or CloseRead() was
  // called), or an empty buffer, with which it returns at once.
  //
  // Errors: IsTimeout() once the read deadline has passed, even if there is data; IsClosed();
  // the system's (ECONNRESET, ETIMEDOUT, ...). May park.
  absl::StatusOr<size_t> Read(absl::Span<char> buffer) const;

  // Waits until there is something to read, which may be the end of the stream or an error, and
  // takes nothing: a connection that is idle this way holds no buffer. Rarely, where what comes was
  // read before its event was seen, it returns early, and the Read() that follows waits. It counts
  // as a Read in the order of callers. Errors: IsTimeout(), IsClosed(). May park.
  absl::Status WaitReadable() const;

  // Reads until `buffer` is full. OutOfRange with "EOF" if the stream ends before the first byte,
  // with "unexpected EOF" if it ends after it; else as Read(). How much of the buffer was filled
  // before an error is not told. May park.
  absl::Status ReadFull(absl::Span<char> buffer) const;

  // Writes all of `data`, waiting for room in the socket's buffer as often as need be. Returns Ok
  // only if all of it was handed to the system. On an error, part may have been; `*written`, if
  // given, is the number of bytes in either case.
  //
  // Errors: IsTimeout() once the write deadline has passed, even if there is room; IsClosed(); the
  // system's (EPIPE after the peer or CloseWrite() ended it, ECONNRESET, ...). SIGPIPE is not
  // raised. May park.
  absl::Status Write(absl::string_view data, size_t* written = nullptr) const;

  // The same for several pieces in one go, as few system calls as can be.
  absl::Status Writev(absl::Span<const absl::string_view> pieces, size_t* written = nullptr) const;

  // Sends `head`, then `n` bytes of the file `file_fd` from `offset` on; the file's bytes are not
  // copied through the process. The head leaves in one packet with what follows. The file's own
  // position does not move. Returns how many bytes of the file were sent: fewer than `n` only if
  // the file ended before (it was truncated meanwhile). May park; may block the thread for a disk.
  //
  // Errors as with Write(); after one the peer may have any part of it.
  absl::StatusOr<size_t> SendFile(int file_fd, off_t offset, size_t n,
                                  absl::string_view head = {}) const;

  // Reads and writes, waiting ones included, fail with an IsTimeout() error once `deadline` has
  // passed; a time in the past (absl::InfinitePast() is one) makes them fail at once.
  // absl::InfiniteFuture(), the initial state, is no deadline. It holds until it is set anew, not
  // for one call. Never parks. Fails only with IsClosed().
  absl::Status SetDeadline(absl::Time deadline) const;
  absl::Status SetReadDeadline(absl::Time deadline) const;
  absl::Status SetWriteDeadline(absl::Time deadline) const;

  // Ends the receiving side: reads, waiting ones included, find the end of the stream.
  absl::Status CloseRead() const;

  // Ends the sending side: the peer reads the end of the stream after what was written. Writes fail
  // with EPIPE from now on; reads go on.
  absl::Status CloseWrite() const;

  // Closes the connection for all its handles. Calls that wait on it return IsClosed() errors.
  // What was written is still delivered in the background, unless SetLinger() says otherwise. When
  // it returns the descriptor is gone: it waits for the others' calls to leave, so it may park for
  // a moment. The second Close() fails with IsClosed().
  absl::Status Close() const;

  // TCP only, as is SetKeepAlive(). TCP_NODELAY: small writes leave at once instead of being
  // collected. On from the start, as in Go.
  absl::Status SetNoDelay(bool no_delay) const;

  absl::Status SetKeepAlive(const KeepAlive& keep_alive) const;

  // What Close() does with data that is not yet delivered. absl::InfiniteDuration(), the initial
  // state: the system goes on in the background. Zero: it is discarded and the peer gets a
  // connection reset. Else Close() blocks until it is delivered or the time (in whole seconds,
  // rounded up) is over.
  absl::Status SetLinger(absl::Duration linger) const;

  // SO_RCVBUF and SO_SNDBUF, in bytes, of which the system makes twice as much: how much may be
  // under way unread. TCP tunes its buffers by itself until one is set.
  absl::Status SetReadBuffer(int bytes) const;
  absl::Status SetWriteBuffer(int bytes) const;

  // "tcp", "tcp4", "tcp6", "unix" or "unixpacket": what it was dialled or listened on; "" if there
  // is no connection.
  absl::string_view network() const;

  // The two ends. Empty if there is no connection; a Unix socket's that has no name is empty too.
  SocketAddress local_address() const;
  SocketAddress remote_address() const;

  // Runs `call` with the descriptor, which cannot be closed meanwhile: for options that this class
  // lacks. Never waits for reads or writes that are under way. The descriptor is non-blocking and
  // stays ours: do not close it, or register it with another edge-triggered user of the same data.
  // Fails only with IsClosed().
  absl::Status Control(absl::FunctionRef<void(int fd)> call) const;

  // The descriptor, where nobody else may call Close() meanwhile; else use Control(). -1 if there
  // is none or it is closed.
  int fd() const;

  // A second descriptor for the same connection, which lives until both are closed. The caller's to
  // close; non-blocking, as that is the connection's, not the descriptor's; close-on-exec.
  absl::StatusOr<int> Dup() const;

  // As Close(), but the connection goes on: its descriptor is the caller's from now on,
  // non-blocking.
  absl::StatusOr<int> Release() const;

  // Whether there is a connection behind the handle, closed or not.
  explicit operator bool() const { return fd_ != nullptr; }

 private:
  friend struct internal::NetAccess;
  explicit Conn(std::shared_ptr<internal::NetFd> fd) : fd_(std::move(fd)) {}

  std::shared_ptr<internal::NetFd> fd_;
};

// A socket that connections come in by.
class Listener {
 public:
  // A listener on nothing: every operation fails with an IsClosed() error.
  Listener() = default;

  // Waits for the next connection. Connections that were aborted before we came to them are
  // skipped. Accepted ones have TCP_NODELAY and keep-alive set.
  //
  // Errors: IsTimeout() once the deadline has passed, even if one is waiting; IsClosed(); the
  // system's. EMFILE and ENFILE (out of descriptors) leave the connection in the queue: wait a
  // little and call again. May park.
  absl::StatusOr<Conn> Accept() const;

  // For Accept(), as Conn::SetDeadline().
  absl::Status SetDeadline(absl::Time deadline) const;

  // Stops listening and ends the Accept() calls that wait with IsClosed() errors. When it returns
  // the port is free, and what was queued but not accepted is reset. The file of a Unix socket that
  // Listen() has made is removed, by the first Close() only. May park for a moment. The second
  // Close() fails with IsClosed().
  absl::Status Close() const;

  // Whether closing removes the Unix socket's file: true from the start if Listen() has made it,
  // false if FileListener() has. Nothing for other networks.
  void SetUnlinkOnClose(bool unlink) const;

  // "tcp", "unix", ...; as Conn::network().
  absl::string_view network() const;

  // Where it listens; the port is the real one where 0 was asked for.
  SocketAddress addr() const;

  // As Conn has them.
  absl::Status Control(absl::FunctionRef<void(int fd)> call) const;
  int fd() const;
  absl::StatusOr<int> Dup() const;
  absl::StatusOr<int> Release() const;

  explicit operator bool() const { return fd_ != nullptr; }

 private:
  friend struct internal::NetAccess;
  explicit Listener(std::shared_ptr<internal::NetFd> fd) : fd_(std::move(fd)) {}

  std::shared_ptr<internal::NetFd> fd_;
};

// Listens on `address`. `network` is
// - "tcp", "tcp4" or "tcp6": "host:port". Port 0 lets the system choose (addr() tells). An empty
// host
//   is all interfaces: with "tcp" both IPv6 and IPv4 through one socket where the system has IPv6.
//   A name is looked up and its first address taken, IPv4 preferred. SO_REUSEADDR is set, so that a
//   server can restart at once.
// - "unix" or "unixpacket": a path, at which no file may be yet, or an abstract name after '@' (see
//   SocketAddress::Unix()).
//
// Errors: InvalidArgument for an unknown network or a malformed address, NotFound for an unknown
// name, the system's (EADDRINUSE, EACCES, ...). A name lookup blocks the thread in a
// BlockingSection.
absl::StatusOr<Listener> Listen(absl::string_view network, absl::string_view address,
                                const ListenOptions& options = {});

// Connects to `address`: "host:port", where host is an address or a name and port a number or a
// service name; an empty host is this machine. Or a Unix socket's name. `network` as in Listen().
// Where a name has several addresses the first error is returned if none answers.
//
// Errors: IsTimeout(); InvalidArgument, NotFound as in Listen(); the system's (ECONNREFUSED, ...;
// of a Unix socket whose queue is full EAGAIN, at once). Parks while connecting. A name lookup
// blocks a thread in a BlockingSection, another goroutine's where there is a time limit: then it
// may go on for a while after the call. Numeric addresses need none, and
// resolver.h has lookups that block no thread.
absl::StatusOr<Conn> Dial(absl::string_view network, absl::string_view address,
                          const DialOptions& options = {});

namespace internal {
// `why` says what the interruption has come for; OK while it has not.
absl::StatusOr<Conn> DialUnless(Interruption interruption, absl::FunctionRef<absl::Status()> why,
                                absl::Time deadline, absl::string_view network,
                                absl::string_view address, const DialOptions& options);
}  // namespace internal

// The same, until `context` (a weft::Context, chan/context.h) is done: then IsTimeout() if its
// deadline has passed, or CANCELLED "operation was canceled". What becomes of the context later
// does not touch the connection.
template <internal::Interrupting Context>
absl::StatusOr<Conn> Dial(const Context& context, absl::string_view network,
                          absl::string_view address, const DialOptions& options = {}) {
  return internal::DialUnless(
      InterruptionOf(context), [&context] { return context.Err(); },
      context.Deadline().value_or(absl::InfiniteFuture()), network, address, options);
}

// A connection, or a listener, of a descriptor that comes from somewhere else: inherited, received,
// made by another library. It is taken over and made non-blocking and close-on-exec; on an error it
// stays the caller's. Deadlines and all else work as with our own. Errors: InvalidArgument if it is
// no stream or seqpacket socket of a family known here; the system's (EBADF, ENOTSOCK, ...).
absl::StatusOr<Conn> FileConn(int fd);
absl::StatusOr<Listener> FileListener(int fd);

}  // namespace weft

#endif  // WEFT_NETPOLL_NET_H_
