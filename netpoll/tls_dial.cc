#include <algorithm>
#include <utility>

#include "netpoll/tls.h"

namespace weft {
namespace {

// The host of "host:port" or "[host]:port".
absl::string_view HostOf(absl::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon != absl::string_view::npos) address = address.substr(0, colon);
  if (address.size() >= 2 && address.front() == '[' && address.back() == ']') {
    address = address.substr(1, address.size() - 2);
  }
  return address.substr(0, address.find('%'));
}

template <typename DialCall, typename HandshakeCall>
absl::StatusOr<TlsConn> DialAndShakeHands(absl::string_view address, const TlsConfig& config,
                                          const DialOptions& options, DialCall dial,
                                          HandshakeCall shake_hands) {
  const absl::Time deadline = std::min(absl::Now() + options.timeout, options.deadline);
  absl::StatusOr<Conn> conn = dial();
  if (!conn.ok()) return conn.status();
  const TlsConn tls = TlsClient(*std::move(conn), config, HostOf(address));
  if (deadline != absl::InfiniteFuture()) tls.SetDeadline(deadline).IgnoreError();
  if (absl::Status status = shake_hands(tls); !status.ok()) {
    tls.Close().IgnoreError();
    return status;
  }
  if (deadline != absl::InfiniteFuture()) {
    if (absl::Status s = tls.SetDeadline(absl::InfiniteFuture()); !s.ok()) return s;
  }
  return tls;
}

}  // namespace

absl::StatusOr<TlsConn> TlsDial(absl::string_view network, absl::string_view address,
                                const TlsConfig& config, const DialOptions& options) {
  return DialAndShakeHands(
      address, config, options, [&] { return Dial(network, address, options); },
      [](const TlsConn& conn) { return conn.Handshake(); });
}

absl::StatusOr<TlsConn> TlsDial(const Context& context, absl::string_view network,
                                absl::string_view address, const TlsConfig& config,
                                const DialOptions& options) {
  return DialAndShakeHands(
      address, config, options, [&] { return Dial(context, network, address, options); },
      [&context](const TlsConn& conn) { return conn.Handshake(context); });
}

}  // namespace weft
