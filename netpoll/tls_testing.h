// Certificates, made by the openssl command, and pairs of TLS connections, for tests.
#ifndef WEFT_NETPOLL_TLS_TESTING_H_
#define WEFT_NETPOLL_TLS_TESTING_H_

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "netpoll/test_util.h"
#include "netpoll/tls.h"

namespace weft::testing {

inline std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// In a directory of the test's; made once, by the first who asks.
class TestCertificates {
 public:
  static const TestCertificates& Get() {
    static const TestCertificates* const certificates = new TestCertificates;
    return *certificates;
  }

  // The path of "<name>.pem", "<name>.key", ...
  std::string Path(absl::string_view file) const { return absl::StrCat(directory_, "/", file); }

  // Of these names:
  //   server   for localhost, server.test, *.wild.test, 127.0.0.1
  //   other    for other.test
  //   expired  as server, but it has
  //   stranger as server, by an authority of its own
  //   client   for a client
  TlsCertificate Certificate(absl::string_view name) const {
    return {FileText(Path(absl::StrCat(name, ".pem"))), FileText(Path(absl::StrCat(name, ".key")))};
  }
  // The authority of all but one of them.
  std::string Authority() const { return FileText(Path("ca.pem")); }

 private:
  TestCertificates() {
    directory_ = absl::StrCat(::testing::TempDir(), "/certificates.", getpid());
    constexpr char kScript[] = R"(
      set -e; mkdir -p "$0"; cd "$0"
      key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
      for ca in ca ca2; do
        openssl req -x509 $key -keyout $ca.key -out $ca.pem -subj "/CN=The $ca authority" -days 30 \
            -addext basicConstraints=critical,CA:TRUE
      done
      sign() {  # name, authority, days, extension
        openssl req $key -keyout $1.key -out $1.csr -subj "/CN=$1"
        echo "$4" >$1.ext
        openssl x509 -req -in $1.csr -CA $2.pem -CAkey $2.key -CAcreateserial -days $3 \
            -extfile $1.ext -out $1.pem
      }
      names=subjectAltName=DNS:localhost,DNS:server.test,DNS:*.wild.test,IP:127.0.0.1
      sign server ca 30 $names
      sign other ca 30 subjectAltName=DNS:other.test
      sign expired ca -1 $names
      sign stranger ca2 30 $names
      sign client ca 30 extendedKeyUsage=clientAuth
    )";
    const std::string command =
        absl::StrCat("sh -c '", kScript, "' ", directory_, " >", directory_, ".log 2>&1");
    if (std::system(command.c_str()) != 0) {
      ADD_FAILURE() << "openssl: " << FileText(directory_ + ".log");
      std::abort();
    }
  }

  std::string directory_;
};

inline TlsConfig ServerConfig(absl::string_view certificate = "server",
                              TlsServerOptions options = {}) {
  options.certificates.push_back(TestCertificates::Get().Certificate(certificate));
  absl::StatusOr<TlsConfig> config = TlsConfig::Server(options);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.value_or(TlsConfig());
}

inline TlsConfig ClientConfig(TlsClientOptions options = {}) {
  if (options.authorities_pem.empty()) {
    options.authorities_pem = TestCertificates::Get().Authority();
  }
  absl::StatusOr<TlsConfig> config = TlsConfig::Client(options);
  EXPECT_TRUE(config.ok()) << config.status();
  return config.value_or(TlsConfig());
}

// The two ends over loopback; the handshake is still to come.
struct TlsPair {
  TlsConn client;
  TlsConn server;
};
inline TlsPair MakeTlsPair(const TlsConfig& client, const TlsConfig& server,
                           absl::string_view name = "server.test") {
  const ConnPair pair = MakePair();
  return {TlsClient(pair.client, client, name), TlsServer(pair.server, server)};
}

// Both ends' handshakes, at once.
struct Handshakes {
  absl::Status client;
  absl::Status server;
};
inline Handshakes ShakeHands(TaskKind kind, const TlsPair& pair) {
  Handshakes result;
  TaskGroup group(kind);
  group.Go([&] { result.server = pair.server.Handshake(); });
  result.client = pair.client.Handshake();
  group.Wait();
  return result;
}

// A pair whose handshake is done.
inline TlsPair MustMakeTlsPair(TaskKind kind, const TlsConfig& client, const TlsConfig& server) {
  const TlsPair pair = MakeTlsPair(client, server);
  const Handshakes result = ShakeHands(kind, pair);
  EXPECT_TRUE(result.client.ok()) << result.client;
  EXPECT_TRUE(result.server.ok()) << result.server;
  return pair;
}

}  // namespace weft::testing

#endif  // WEFT_NETPOLL_TLS_TESTING_H_
