// Buffers before connections: lines, messages of known length, many small writes.
//
//   weft::BufferedReader reader(conn);
//   weft::BufferedWriter writer(conn);
//   for (auto line = reader.ReadLine(); line.ok(); line = reader.ReadLine()) {
//     if (!writer.Write(absl::StrCat("you said ", *line, "\n")).ok()) break;
//     if (reader.buffered() == 0 && !writer.Flush().ok()) break;
//   }
//
// They work over whatever reads and writes as Conn does (net.h): Conn, PipeConn, a class of one's
// own. A handle is kept, so its connection stays open as long as they exist; an object that is no
// handle is given as std::ref. Each is used by one goroutine or thread at a time. What waits, the
// timeouts and the errors are the connection's; after a timeout nothing is lost, and the call can
// be made again.
#ifndef WEFT_NETPOLL_BUFFERED_H_
#define WEFT_NETPOLL_BUFFERED_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace weft {

namespace internal {
template <typename T>
const T& Unwrap(const T& object) {
  return object;
}
template <typename T>
T& Unwrap(const std::reference_wrapper<T>& object) {
  return object.get();
}
}  // namespace internal

class BufferedReader {
 public:
  static constexpr size_t kDefaultSize = 4096;

  // `source` has absl::StatusOr<size_t> Read(absl::Span<char>) const, where 0 is the end. `size` is
  // how much is read at a time; the buffer grows beyond it for long lines.
  template <typename Source>
  explicit BufferedReader(Source source, size_t size = kDefaultSize)
      : read_([source = std::move(source)](absl::Span<char> room) {
          return internal::Unwrap(source).Read(room);
        }),
        step_(size == 0 ? 1 : size) {}

  // What is buffered, or else one Read() of the source, for which a large `buffer` is used
  // directly. 0 is the end of the stream, or an empty buffer.
  absl::StatusOr<size_t> Read(absl::Span<char> buffer);

  // Fills `buffer`. OutOfRange with "EOF" if the stream ends before its first byte, with
  // "unexpected EOF" if it ends after it; after any error nothing has been taken.
  absl::Status ReadExact(absl::Span<char> buffer);

  // The same without a copy: the next `n` bytes, valid until the next call.
  absl::StatusOr<absl::string_view> ReadExact(size_t n);

  // All up to and with `delimiter`, valid until the next call. OutOfRange with "EOF" at the end of
  // the stream; with "unexpected EOF" if it ends before a delimiter, ResourceExhausted if none is
  // among the next `max` bytes: then nothing has been taken.
  absl::StatusOr<absl::string_view> ReadUntil(char delimiter, size_t max = kMaxLine);

  // The next line without its "\n" or "\r\n", valid until the next call. What is left behind the
  // last "\n" is a line too. Errors as with ReadUntil().
  absl::StatusOr<absl::string_view> ReadLine(size_t max = kMaxLine);
  static constexpr size_t kMaxLine = size_t{1} << 20;

  // The next `n` bytes, which stay where they are; fewer only at the end of the stream. Valid until
  // the next call.
  absl::StatusOr<absl::string_view> Peek(size_t n);

  // Bytes that can be read without asking the source.
  size_t buffered() const { return end_ - begin_; }

 private:
  absl::string_view data() const { return {buffer_.get() + begin_, buffered()}; }
  absl::string_view Take(size_t n);
  absl::Status Fill(size_t n);
  absl::StatusOr<size_t> FindEnd(char delimiter, size_t max);

  const std::function<absl::StatusOr<size_t>(absl::Span<char>)> read_;
  const size_t step_;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  // The last call of read_ found the end.
  bool at_end_ = false;
};

class BufferedWriter {
 public:
  static constexpr size_t kDefaultSize = 4096;

  // `sink` has absl::Status Write(absl::string_view) const.
  template <typename Sink>
  explicit BufferedWriter(Sink sink, size_t size = kDefaultSize)
      : write_([sink = std::move(sink)](absl::string_view data) -> absl::Status {
          return internal::Unwrap(sink).Write(data);
        }),
        size_(size) {}

  // What has not been flushed is lost.
  ~BufferedWriter() = default;
  BufferedWriter(const BufferedWriter&) = delete;
  BufferedWriter& operator=(const BufferedWriter&) = delete;

  // Adds to the buffer; where it does not fit, writes what is there first, and what is larger than
  // the buffer directly. After an error, of which part may have been written, every call returns
  // it.
  absl::Status Write(absl::string_view data);

  // Writes what is in the buffer.
  absl::Status Flush();

  size_t buffered() const { return buffer_.size(); }

 private:
  const std::function<absl::Status(absl::string_view)> write_;
  const size_t size_;
  std::string buffer_;
  absl::Status error_;
};

// Reads from `source` and writes to `sink` until the source ends. Returns how many bytes that were.
// Either may be any of the above, by std::ref. May park.
template <typename Sink, typename Source>
absl::StatusOr<uint64_t> Copy(const Sink& sink, const Source& source) {
  constexpr size_t kBuffer = 32 << 10;
  const auto buffer = std::make_unique<char[]>(kBuffer);
  for (uint64_t copied = 0;;) {
    const absl::StatusOr<size_t> n =
        internal::Unwrap(source).Read(absl::MakeSpan(buffer.get(), kBuffer));
    if (!n.ok()) return n.status();
    if (*n == 0) return copied;
    absl::Status status = internal::Unwrap(sink).Write(absl::string_view(buffer.get(), *n));
    if (!status.ok()) return status;
    copied += *n;
  }
}

}  // namespace weft

#endif  // WEFT_NETPOLL_BUFFERED_H_
