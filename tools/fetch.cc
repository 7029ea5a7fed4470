// Fetches files over HTTP, many at a time. Every download is a goroutine.
//
//   fetch --jobs=32 --output_dir=mirror URL...        fetch --help
//
// tools/download has the parts; here are the flags, the bars, and the summary.
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "chan/context.h"
#include "chan/select.h"
#include "netpoll/signal.h"
#include "sched/goroutine.h"
#include "sched/sync/wait_group.h"
#include "tools/download/curl_loop.h"
#include "tools/download/fetch_file.h"

ABSL_FLAG(
    std::string, input, "",
    "a file with more downloads, one a line: URL [name=NAME] [sha256=HEX]; \"-\" for standard "
    "input; empty lines and those that begin with # are passed over");
ABSL_FLAG(std::string, output_dir, ".", "where the files go; made if it is not there");
ABSL_FLAG(int, jobs, 8, "how many downloads at a time");
ABSL_FLAG(int, retries, 5, "how many attempts in a row, after the first, may bring nothing");
ABSL_FLAG(absl::Duration, backoff, absl::Milliseconds(200),
          "the wait after an attempt that brought nothing; doubled with each, up to 10s");
ABSL_FLAG(absl::Duration, timeout, absl::Seconds(30),
          "how long a connection may take to come, and bytes to follow");
ABSL_FLAG(bool, resume, true, "go on with what an earlier run has left in NAME.part");
ABSL_FLAG(std::string, progress, "auto",
          "\"bars\", \"none\", or \"auto\": bars if standard error is a terminal");

namespace {

using weft::download::FetchOptions;
using weft::download::Item;
using weft::download::Progress;

constexpr const char* kFlags[] = {"input",   "output_dir", "jobs",   "retries",
                                  "backoff", "timeout",    "resume", "progress"};
constexpr int kBars = 10;
constexpr int kUsage = 2;
constexpr int kInterrupted = 130;

int Fail(absl::string_view problem) {
  std::fprintf(stderr, "fetch: %s\n", std::string(problem).c_str());
  return kUsage;
}

void PrintHelp() {
  std::printf(
      "usage: fetch [--FLAG=VALUE...] [URL...]\n\n"
      "Fetches files over HTTP and HTTPS, many at a time, and goes on where a connection broke.\n"
      "Exit status: 0 all are there, 1 some are not, 2 a mistake in the arguments, 130 "
      "interrupted\n"
      "(the same command again goes on).\n\n");
  for (const char* name : kFlags) {
    const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
    std::printf("  --%s=%s\n      %s\n", name, flag->DefaultValue().c_str(), flag->Help().c_str());
  }
}

// One of the downloads.
struct Download {
  Item item;
  Progress progress;
  enum State { kWaiting, kRunning, kDone, kFailed };
  std::atomic<State> state{kWaiting};
  absl::Status status;
};
using Downloads = std::deque<Download>;

// Adds one; returns what is wrong with it, or an empty string.
std::string Add(absl::string_view line, std::set<std::string>& names, Downloads& downloads) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
  Item item = {.url = std::string(words[0]), .name = {}, .sha256 = {}};
  if (!absl::StartsWith(item.url, "http://") && !absl::StartsWith(item.url, "https://")) {
    return absl::StrCat("'", item.url, "' is not an http or https URL");
  }
  for (size_t i = 1; i < words.size(); ++i) {
    absl::string_view word = words[i];
    if (absl::ConsumePrefix(&word, "name=")) {
      item.name = std::string(word);
    } else if (absl::ConsumePrefix(&word, "sha256=")) {
      item.sha256 = absl::AsciiStrToLower(word);
      if (item.sha256.size() != 64) return absl::StrCat("'", words[i], "' is no SHA-256");
    } else {
      return absl::StrCat("'", words[i], "' after a URL: expected name= or sha256=");
    }
  }
  if (item.name.empty()) item.name = weft::download::NameOf(item.url);
  if (item.name.empty() || absl::StrContains(item.name, '/')) {
    return absl::StrCat(item.url, " gives no name for a file: add name=NAME in an --input file");
  }
  if (!names.insert(item.name).second) {
    return absl::StrCat("two downloads would be '", item.name, "'");
  }
  downloads.emplace_back().item = std::move(item);
  return "";
}

std::string AddFrom(std::istream& input, std::set<std::string>& names, Downloads& downloads) {
  for (std::string line; std::getline(input, line);) {
    const absl::string_view text = absl::StripAsciiWhitespace(line);
    if (text.empty() || text[0] == '#') continue;
    if (std::string problem = Add(text, names, downloads); !problem.empty()) return problem;
  }
  return "";
}

std::string Bytes(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 4; ++unit) bytes /= 1024;
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, bytes, units[unit]);
}

// The lines that are redrawn: those under way, then the sum.
class Bars {
 public:
  explicit Bars(const Downloads& downloads) : downloads_(downloads) {}

  void Draw() {
    std::string text = lines_ == 0 ? "" : absl::StrCat("\x1b[", lines_, "A");
    lines_ = 1;
    size_t done = 0;
    int64_t received = 0;
    int running = 0;
    for (const Download& d : downloads_) {
      received += d.progress.received.load();
      const Download::State state = d.state.load();
      if (state == Download::kDone || state == Download::kFailed) ++done;
      if (state != Download::kRunning || ++running > kBars) continue;
      absl::StrAppend(&text, Line(d), "\x1b[K\n");
      ++lines_;
    }
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start_);
    absl::StrAppend(
        &text, done, " of ", downloads_.size(), " files, ", Bytes(static_cast<double>(received)),
        ", ", Bytes(static_cast<double>(received) / std::max(seconds, 0.001)), "/s\x1b[K\n\x1b[J");
    std::fwrite(text.data(), 1, text.size(), stderr);
  }

 private:
  static std::string Line(const Download& d) {
    constexpr int kWidth = 30;
    const int64_t done = d.progress.done.load();
    const int64_t total = d.progress.total.load();
    const int filled = total <= 0 ? 0 : static_cast<int>(std::min(done, total) * kWidth / total);
    return absl::StrFormat("%-28.28s [%s%s] %s", d.item.name, std::string(filled, '#'),
                           std::string(kWidth - filled, '.'), Bytes(static_cast<double>(done)));
  }

  const Downloads& downloads_;
  const absl::Time start_ = absl::Now();
  size_t lines_ = 0;
};

int Summarize(const Downloads& downloads, absl::Duration took) {
  size_t done = 0;
  int64_t received = 0;
  int64_t again = 0;
  for (const Download& d : downloads) {
    received += d.progress.received.load();
    again += std::max<int64_t>(d.progress.attempts.load() - 1, 0);
    if (d.state.load() == Download::kDone) {
      ++done;
    } else if (!absl::IsCancelled(d.status)) {
      std::fprintf(stderr, "fetch: %s: %s\n", d.item.url.c_str(),
                   std::string(d.status.message()).c_str());
    }
  }
  const double seconds = absl::ToDoubleSeconds(took);
  std::printf("fetched %zu of %zu files, %s in %.2f s (%s/s), %lld attempts again\n", done,
              downloads.size(), Bytes(static_cast<double>(received)).c_str(), seconds,
              Bytes(static_cast<double>(received) / std::max(seconds, 0.001)).c_str(),
              static_cast<long long>(again));
  return done == downloads.size() ? 0 : 1;
}

int Run(Downloads& downloads, const FetchOptions& options, int jobs, bool bars) {
  const absl::Time start = absl::Now();
  weft::download::CurlLoop::Get();
  const auto [context, stop] = weft::NotifyContext(weft::Background(), {SIGINT, SIGTERM});

  weft::Chan<Download*> queue(static_cast<int64_t>(downloads.size()));
  for (Download& d : downloads) queue.Send(&d);
  queue.Close();
  weft::WaitGroup workers;
  for (int i = 0; i < jobs; ++i) {
    workers.Go([&, context = context] {
      for (Download* d : queue) {
        d->state.store(Download::kRunning);
        d->status = FetchFile(context, d->item, options, d->progress);
        d->state.store(d->status.ok() ? Download::kDone : Download::kFailed);
      }
    });
  }
  weft::Chan<int> drawn(0);
  weft::Chan<int> finished(0);
  if (bars) {
    weft::Go([&] {
      Bars drawing(downloads);
      for (bool more = true; more;) {
        drawing.Draw();
        weft::Select(finished.OnRecv([&] { more = false; }),
                     weft::After(absl::Milliseconds(100), [] {}));
      }
      drawing.Draw();
      drawn.Close();
    });
  }
  workers.Wait();
  finished.Close();
  if (bars) drawn.Recv();
  const int status = Summarize(downloads, absl::Now() - start);
  if (context.Err().ok()) return status;
  std::fprintf(stderr, "fetch: interrupted; the same command goes on\n");
  return kInterrupted;
}

// Reads the arguments and --input; returns what is wrong with them, or an empty string.
std::string Configure(int argc, char** argv, Downloads& downloads, FetchOptions& options,
                      bool& bars) {
  const std::vector<char*> urls = absl::ParseCommandLine(argc, argv);

  std::set<std::string> names;
  for (size_t i = 1; i < urls.size(); ++i) {
    if (std::string problem = Add(urls[i], names, downloads); !problem.empty()) return problem;
  }
  if (const std::string input = absl::GetFlag(FLAGS_input); !input.empty()) {
    std::ifstream file(input == "-" ? "/dev/stdin" : input);
    if (!file) return absl::StrCat("cannot read ", input);
    if (std::string problem = AddFrom(file, names, downloads); !problem.empty()) {
      return problem;
    }
  }
  if (downloads.empty()) return "nothing to fetch (see --help)";
  const int jobs = absl::GetFlag(FLAGS_jobs);
  if (jobs < 1 || jobs > 10'000) return "--jobs: must be from 1 to 10000";
  if (absl::GetFlag(FLAGS_retries) < 0) return "--retries: must not be negative";
  if (absl::GetFlag(FLAGS_timeout) <= absl::ZeroDuration()) return "--timeout: must be positive";
  const std::string progress = absl::GetFlag(FLAGS_progress);
  if (progress != "auto" && progress != "bars" && progress != "none") {
    return "--progress: must be auto, bars or none";
  }
  options.directory = absl::GetFlag(FLAGS_output_dir);
  options.resume = absl::GetFlag(FLAGS_resume);
  options.retries = absl::GetFlag(FLAGS_retries);
  options.backoff = absl::GetFlag(FLAGS_backoff);
  options.timeout = absl::GetFlag(FLAGS_timeout);
  if (mkdir(options.directory.c_str(), 0777) != 0 && errno != EEXIST) {
    return absl::StrCat("cannot make ", options.directory);
  }
  bars = progress == "bars" || (progress == "auto" && isatty(STDERR_FILENO) == 1);
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    if (argument == "--help" || argument == "-help" || argument == "-h") {
      PrintHelp();
      return 0;
    }
  }
  absl::SetProgramUsageMessage("fetches files over HTTP; see --help");
  // weft::Main() ends the process: what is used until then is never destroyed.
  static auto& downloads = *new Downloads;
  static auto& options = *new FetchOptions;
  bool bars = false;
  if (const std::string problem = Configure(argc, argv, downloads, options, bars);
      !problem.empty()) {
    return Fail(problem);
  }
  const int jobs = std::min<int>(absl::GetFlag(FLAGS_jobs), static_cast<int>(downloads.size()));
  return weft::Main([=] { return Run(downloads, options, jobs, bars); });
}
