// Serves the files of a directory over HTTP/1.1. Every connection is a goroutine.
//
//   httpd --http=:6060 --root=.        httpd --help
//   httpd --https=:6443 --tls_cert=cert.pem --tls_key=key.pem
//
// tools/http has the parts; here are the flags, the signals, and the order of things.
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "debug/http/serve.h"
#include "netpoll/net.h"
#include "netpoll/pollfd.h"
#include "netpoll/tls.h"
#include "sched/goroutine.h"
#include "tools/http/access_log.h"
#include "tools/http/fd.h"
#include "tools/http/file_handler.h"
#include "tools/http/root.h"
#include "tools/http/server.h"

ABSL_FLAG(std::string, http, ":6060",
          "where to listen: \"host:port\"; no host: all interfaces; port 0: any free one; empty: "
          "not at all, where --https says something else");
ABSL_FLAG(std::string, https, "",
          "the same for HTTP over TLS, which takes --tls_cert and --tls_key");
ABSL_FLAG(std::string, tls_cert, "",
          "a file with the server's certificate, and those of the authorities between it and the "
          "root, as PEM");
ABSL_FLAG(std::string, tls_key, "",
          "a file with the certificate's private key, unencrypted, as PEM");
ABSL_FLAG(std::string, root, ".", "the directory to serve; nothing outside of it is");
ABSL_FLAG(
    std::string, access_log, "-",
    "where a line for each request goes, in the Common Log Format: a file to append to, \"-\" "
    "for standard output, or \"off\"");
ABSL_FLAG(std::string, debug, "",
          "where to show pages about the server itself, under /debug/: \"host:port\"; no host: for "
          "this machine alone; empty: nowhere");
ABSL_FLAG(absl::Duration, drain, absl::Seconds(10),
          "how long requests in flight may take to end after SIGINT or SIGTERM; a second signal "
          "ends the server at once");
ABSL_FLAG(absl::Duration, idle_timeout, absl::Seconds(75),
          "how long a connection may be without a request");
ABSL_FLAG(absl::Duration, header_timeout, absl::Seconds(60),
          "how long a request's head or body may take to come; else it is answered with 408");
ABSL_FLAG(absl::Duration, write_timeout, absl::Seconds(60),
          "how long a client may take to accept 256 KiB of an answer");
ABSL_FLAG(int, max_header_bytes, 8192,
          "how large the head of a request may be; a larger one is answered with 431 or 414");

namespace {

constexpr const char* kFlags[] = {
    "http",  "https", "tls_cert",     "tls_key",        "root",          "access_log",
    "debug", "drain", "idle_timeout", "header_timeout", "write_timeout", "max_header_bytes"};
constexpr int kMinHeaderBytes = 256;
constexpr int kMaxHeaderBytes = 1 << 20;

int Fail(absl::string_view problem) {
  std::fprintf(stderr, "httpd: %s\n", std::string(problem).c_str());
  return 1;
}

void PrintHelp() {
  std::printf(
      "usage: httpd [--FLAG=VALUE...]\n\n"
      "Serves the files of a directory over HTTP/1.1. Every connection is a goroutine;\n"
      "WEFTDEBUG=schedtrace=1000 shows every second how they are scheduled.\n\n");
  for (const char* name : kFlags) {
    const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
    std::printf("  --%s=%s\n      %s\n", name, flag->DefaultValue().c_str(), flag->Help().c_str());
  }
}

bool WantsHelp(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    if (argument == "--help" || argument == "-help" || argument == "-h") return true;
  }
  return false;
}

// Returns what is wrong with them, or an empty string. Ends the process if there is an unknown one.
std::string ParseFlags(int argc, char** argv) {
  const std::vector<char*> rest = absl::ParseCommandLine(argc, argv);
  if (rest.size() > 1) return absl::StrCat("unexpected argument: ", rest[1], " (see --help)");
  const int header_bytes = absl::GetFlag(FLAGS_max_header_bytes);
  if (header_bytes < kMinHeaderBytes || header_bytes > kMaxHeaderBytes) {
    return absl::StrCat("--max_header_bytes=", header_bytes, ": must be from ", kMinHeaderBytes,
                        " to ", kMaxHeaderBytes);
  }
  const struct {
    const char* name;
    absl::Duration value;
  } times[] = {{"idle_timeout", absl::GetFlag(FLAGS_idle_timeout)},
               {"header_timeout", absl::GetFlag(FLAGS_header_timeout)},
               {"write_timeout", absl::GetFlag(FLAGS_write_timeout)}};
  for (const auto& time : times) {
    if (time.value <= absl::ZeroDuration()) {
      return absl::StrCat("--", time.name, "=", absl::FormatDuration(time.value),
                          ": must be positive");
    }
  }
  const bool https = !absl::GetFlag(FLAGS_https).empty();
  if (!https && absl::GetFlag(FLAGS_http).empty()) return "--http and --https are both empty";
  if (absl::GetFlag(FLAGS_tls_cert).empty() == https ||
      absl::GetFlag(FLAGS_tls_key).empty() == https) {
    return "--https, --tls_cert and --tls_key go together";
  }
  if (absl::GetFlag(FLAGS_drain) < absl::ZeroDuration()) return "--drain: must not be negative";
  return "";
}

// Each connection needs a descriptor, and the usual soft limit is for programs that use select().
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// SIGINT and SIGTERM as a descriptor. They must be blocked before there are threads.
weft::http::Fd BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return weft::http::Fd(signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC));
}

// Waits for a signal and returns its number. Parks.
int NextSignal(int fd) {
  while (true) {
    weft::PollFd(fd, weft::kReadable).IgnoreError();
    signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) == sizeof(info)) return static_cast<int>(info.ssi_signo);
  }
}

std::string Url(const weft::http::Port& port) {
  const weft::SocketAddress address = port.listener.addr();
  const absl::string_view scheme = port.tls ? "https" : "http";
  if (address.IsUnspecified()) return absl::StrCat(scheme, "://localhost:", address.port(), "/");
  return absl::StrCat(scheme, "://", address.ToString(), "/");
}

// Listens wherever the flags say.
absl::StatusOr<std::vector<weft::http::Port>> OpenPorts() {
  std::vector<weft::http::Port> ports;
  if (const std::string http = absl::GetFlag(FLAGS_http); !http.empty()) {
    absl::StatusOr<weft::Listener> listener = weft::Listen("tcp", http);
    if (!listener.ok()) return listener.status();
    ports.push_back({*std::move(listener)});
  }
  if (const std::string https = absl::GetFlag(FLAGS_https); !https.empty()) {
    absl::StatusOr<weft::TlsCertificate> certificate =
        weft::LoadTlsCertificate(absl::GetFlag(FLAGS_tls_cert), absl::GetFlag(FLAGS_tls_key));
    if (!certificate.ok()) return certificate.status();
    absl::StatusOr<weft::TlsConfig> config =
        weft::TlsConfig::Server({.certificates = {*std::move(certificate)}, .alpn = {"http/1.1"}});
    if (!config.ok()) return config.status();
    absl::StatusOr<weft::Listener> listener = weft::Listen("tcp", https);
    if (!listener.ok()) return listener.status();
    ports.push_back({*std::move(listener), *std::move(config)});
  }
  return ports;
}

std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, void (*)(void*)> real(realpath(path.c_str(), nullptr), &std::free);
  return real != nullptr ? real.get() : path;
}

int Run(int signals) {
  const std::string directory = absl::GetFlag(FLAGS_root);
  absl::StatusOr<weft::http::Root> root = weft::http::Root::Open(directory);
  if (!root.ok()) return Fail(root.status().message());

  std::unique_ptr<weft::http::AccessLog> log;
  if (const std::string path = absl::GetFlag(FLAGS_access_log); path != "off") {
    absl::StatusOr<std::unique_ptr<weft::http::AccessLog>> opened =
        weft::http::AccessLog::Open(path);
    if (!opened.ok()) return Fail(opened.status().message());
    log = *std::move(opened);
  }

  absl::StatusOr<std::vector<weft::http::Port>> ports = OpenPorts();
  if (!ports.ok()) return Fail(ports.status().message());
  std::string pages_url;
  if (const std::string address = absl::GetFlag(FLAGS_debug); !address.empty()) {
    const absl::StatusOr<weft::debug::HttpServer> pages = weft::debug::Serve(address);
    if (!pages.ok()) return Fail(pages.status().message());
    pages_url = pages->url();
  }
  std::string urls;
  for (const weft::http::Port& port : *ports) {
    absl::StrAppend(&urls, urls.empty() ? "" : " and ", Url(port));
  }
  std::printf("httpd: listening on %s, serving %s\n", urls.c_str(), RealPath(directory).c_str());
  if (!pages_url.empty()) std::printf("httpd: pages about itself at %s\n", pages_url.c_str());
  std::fflush(stdout);

  weft::http::ServerOptions options;
  options.max_header_bytes = static_cast<size_t>(absl::GetFlag(FLAGS_max_header_bytes));
  options.idle_timeout = absl::GetFlag(FLAGS_idle_timeout);
  options.header_timeout = absl::GetFlag(FLAGS_header_timeout);
  options.write_timeout = absl::GetFlag(FLAGS_write_timeout);
  // Never deleted: a connection's goroutine may be on its last steps when the process ends.
  auto* const server =
      new weft::http::Server(weft::http::FileHandler(*std::move(root)), log.get(), options);
  weft::Go({.name = "signals"}, [server, signals, drain = absl::GetFlag(FLAGS_drain)] {
    NextSignal(signals);
    weft::Go({.name = "second signal"}, [signals] { _exit(128 + NextSignal(signals)); });
    server->Stop(drain);
  });
  server->Serve(*std::move(ports));
  if (log != nullptr) {
    log->Close();
    // For the same reason.
    log.release();
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (WantsHelp(argc, argv)) {
    PrintHelp();
    return 0;
  }
  absl::SetProgramUsageMessage("serves the files of a directory over HTTP; see --help");
  // What lives in this frame is never destroyed: weft::Main() ends the process.
  if (const std::string problem = ParseFlags(argc, argv); !problem.empty()) return Fail(problem);
  RaiseDescriptorLimit();
  const weft::http::Fd signals = BlockStopSignals();
  if (!signals) return Fail("cannot make a descriptor for signals");
  return weft::Main([&signals] { return Run(signals.get()); });
}
