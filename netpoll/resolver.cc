#include "netpoll/resolver.h"

#include <ares.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "netpoll/error.h"
#include "netpoll/op_error.h"
#include "netpoll/owned_fd.h"
#include "netpoll/pollfd.h"
#include "netpoll/resolve.h"
#include "sched/sync/mutex.h"

namespace weft {
namespace {

using internal::Query;

struct Settings {
  Mutex mutex;
  // What lookups take hold of when they begin.
  std::shared_ptr<const ResolverOptions> options ABSL_GUARDED_BY(mutex);
};

Settings& TheSettings() {
  static Settings* const settings = new Settings;
  return *settings;
}

// One lookup: its own c-ares channel, whose sockets an epoll instance watches, which the netpoller
// watches in turn. c-ares calls back only from within the calls here.
class Lookup {
 public:
  Lookup() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}
  ~Lookup() {
    if (channel_ != nullptr) ares_destroy(channel_);
    if (found_ != nullptr) ares_freeaddrinfo(found_);
  }
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

  // False: c-ares cannot be used.
  bool Init(const ResolverOptions& options) {
    if (!epoll_) return false;
    ares_options settings = {};
    settings.timeout = static_cast<int>(std::clamp<int64_t>(
        absl::ToInt64Milliseconds(absl::Ceil(options.timeout, absl::Milliseconds(1))), 1, 1 << 30));
    settings.tries = std::max(options.tries, 1);
    settings.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
      static_cast<Lookup*>(self)->Watch(fd, readable != 0, writable != 0);
    };
    settings.sock_state_cb_data = this;
    char lookups[] = "fb";
    settings.lookups = lookups;
    std::vector<char*> domains;
    for (const std::string& domain : options.search) {
      domains.push_back(const_cast<char*>(domain.c_str()));
    }
    settings.domains = domains.data();
    settings.ndomains = static_cast<int>(domains.size());
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS;
    if (!domains.empty()) mask |= ARES_OPT_DOMAINS;
    if (ares_init_options(&channel_, &settings, mask) != ARES_SUCCESS) {
      channel_ = nullptr;
      return false;
    }
    if (options.servers.empty()) return true;
    const std::string servers =
        absl::StrJoin(options.servers, ",", [](std::string* out, const SocketAddress& address) {
          absl::StrAppend(out, address.ToString());
        });
    return ares_set_servers_ports_csv(channel_, servers.c_str()) == ARES_SUCCESS;
  }

  // Asks, and waits for the answer: a status of c-ares, or an error of the wait.
  absl::StatusOr<int> Run(const Query& query, absl::Time deadline, int cancel_fd) {
    if (cancel_fd >= 0) Watch(cancel_fd, true, false);
    ares_addrinfo_hints hints = {};
    hints.ai_family = internal::FamilyOf(query.versions);
    const bool tcp = query.transport == internal::Transport::kTcp;
    hints.ai_socktype = tcp ? SOCK_STREAM : SOCK_DGRAM;
    ares_getaddrinfo(
        channel_, query.host.c_str(), query.port.empty() ? nullptr : query.port.c_str(), &hints,
        [](void* self, int status, int, ares_addrinfo* found) {
          static_cast<Lookup*>(self)->Answer(status, found);
        },
        this);
    while (!answered_) {
      timeval room, *const next = ares_timeout(channel_, nullptr, &room);
      absl::Time until = deadline;
      if (next != nullptr) until = std::min(until, absl::Now() + absl::DurationFromTimeval(*next));
      const absl::StatusOr<PollEvents> ready = PollFd(epoll_.get(), kReadable, until);
      if (!ready.ok() && !IsTimeout(ready.status())) return ready.status();
      if (!ready.ok() && deadline <= absl::Now()) return ready.status();
      if (Process(cancel_fd)) return absl::CancelledError("canceled");
    }
    return status_;
  }

  const ares_addrinfo* found() const { return found_; }

 private:
  void Watch(int fd, bool readable, bool writable) {
    epoll_event event = {};
    event.data.fd = fd;
    event.events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);
    if (event.events == 0) {
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, &event);
    } else if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
      epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
    }
  }

  // Has c-ares read, write, and count its timeouts. True: cancelled.
  bool Process(int cancel_fd) {
    epoll_event events[16];
    const int n = epoll_wait(epoll_.get(), events, 16, 0);
    for (int i = 0; i < n; ++i) {
      const int fd = events[i].data.fd;
      if (fd == cancel_fd) return true;
      const bool broken = (events[i].events & (EPOLLERR | EPOLLHUP)) != 0;
      ares_process_fd(channel_, broken || (events[i].events & EPOLLIN) != 0 ? fd : ARES_SOCKET_BAD,
                      (events[i].events & EPOLLOUT) != 0 ? fd : ARES_SOCKET_BAD);
    }
    ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    return false;
  }

  void Answer(int status, ares_addrinfo* found) {
    answered_ = true;
    status_ = status;
    found_ = found;
  }

  const OwnedFd epoll_;
  ares_channel channel_ = nullptr;
  bool answered_ = false;
  int status_ = ARES_SUCCESS;
  ares_addrinfo* found_ = nullptr;
};

absl::StatusOr<std::vector<SocketAddress>> LookUp(const Query& query, absl::Time deadline,
                                                  int cancel_fd, bool* cannot) {
  std::shared_ptr<const ResolverOptions> options;
  {
    MutexLock lock(TheSettings().mutex);
    options = TheSettings().options;
  }
  Lookup lookup;
  *cannot = !lookup.Init(*options);
  if (*cannot) return absl::UnavailableError("");
  const absl::StatusOr<int> status = lookup.Run(query, deadline, cancel_fd);
  if (!status.ok()) {
    if (!IsTimeout(status.status())) return status.status();
    return internal::TimeoutError(absl::StrCat("lookup ", query.host, ": "));
  }
  switch (*status) {
    case ARES_SUCCESS:
      break;
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
    case ARES_EBADNAME:
      return internal::NoSuchHost(query);
    case ARES_ESERVICE:
      return internal::UnknownPort(query);
    case ARES_ETIMEOUT:
      return internal::TimeoutError(absl::StrCat("lookup ", query.host, ": "));
    default:
      return absl::UnavailableError(
          absl::StrCat("lookup ", query.host, ": ", ares_strerror(*status)));
  }
  std::vector<SocketAddress> addresses;
  for (const ares_addrinfo_node* node = lookup.found()->nodes; node != nullptr;
       node = node->ai_next) {
    SocketAddress address = SocketAddress::FromSockaddr(node->ai_addr, node->ai_addrlen);
    if (!address.empty()) addresses.push_back(std::move(address));
  }
  if (addresses.empty()) return internal::NoSuchHost(query);
  return addresses;
}

}  // namespace

absl::Status UseResolver(const ResolverOptions& options) {
  // Once, for good; the library counts its users.
  static const int initialized = ares_library_init(ARES_LIB_INIT_ALL);
  if (initialized != ARES_SUCCESS || !Lookup().Init(options)) {
    return absl::UnavailableError("c-ares cannot be initialized");
  }
  {
    MutexLock lock(TheSettings().mutex);
    TheSettings().options = std::make_shared<const ResolverOptions>(options);
  }
  internal::SetLookupFunction(LookUp);
  return absl::OkStatus();
}

void UseSystemResolver() { internal::SetLookupFunction(nullptr); }

}  // namespace weft
