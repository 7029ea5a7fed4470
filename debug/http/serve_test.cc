// Every page, as a client gets it: under load, with several numbers of Ps; and what the server
// does with clients that are slow, hostile or many.
#include "debug/http/serve.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "chan/chan.h"
#include "debug/cpu_profile.h"
#include "debug/http/formats.h"
#include "debug/http/handler.h"
#include "debug/profile.h"
#include "debug/profile_testing.h"
#include "debug/trace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "netpoll/net.h"
#include "sched/goroutine.h"
#include "sched/profiles.h"
#include "sched/snapshot.h"
#include "sched/sync/wait_group.h"
#include "sched/testing.h"
#include "tests/rounds.h"

namespace app {

[[gnu::noinline]] void WaitHere(const weft::Chan<int>& chan) {
  chan.Recv();
  static std::atomic<int> woken{0};
  woken.fetch_add(1, std::memory_order_relaxed);  // no tail call
}

[[gnu::noinline]] void WaitBefore(const weft::Chan<int>& chan) {
  chan.Recv();
  asm volatile("");  // no tail call
}

[[gnu::noinline]] void WaitMeanwhile(const weft::Chan<int>& chan) {
  chan.Recv();
  asm volatile("");
}

}  // namespace app

namespace weft::debug {
namespace {

using app::WaitHere;

using ::testing::HasSubstr;
using ::testing::StartsWith;
using weft::testing::DecodedProfile;
using weft::testing::DecodeProfile;
using weft::testing::Eventually;
using weft::testing::ForEachMaxProcs;
using weft::testing::IsTurn;
using weft::testing::Rounds;
using weft::testing::RunOnGoroutine;

struct Answer {
  int status = 0;  // 0: there is none
  std::map<std::string, std::string> fields;
  std::string body;
};

// Sends `request` and reads to the end of the stream.
Answer Ask(const HttpServer& server, const std::string& request) {
  const absl::StatusOr<Conn> conn = Dial("tcp", server.address().ToString());
  if (!conn.ok()) return {};
  conn->SetDeadline(absl::Now() + absl::Seconds(60)).IgnoreError();
  if (!conn->Write(request).ok()) return {};
  std::string text;
  std::vector<char> buffer(1 << 16);
  while (true) {
    const absl::StatusOr<size_t> n = conn->Read(absl::MakeSpan(buffer));
    if (!n.ok()) ADD_FAILURE() << n.status();
    if (!n.ok() || *n == 0) break;
    text.append(buffer.data(), *n);
  }
  Answer answer;
  const size_t end = text.find("\r\n\r\n");
  if (end == std::string::npos) return answer;
  const std::vector<std::string> lines = absl::StrSplit(text.substr(0, end), "\r\n");
  if (!absl::StartsWith(lines[0], "HTTP/1.1 ") ||
      !absl::SimpleAtoi(lines[0].substr(9, 3), &answer.status)) {
    ADD_FAILURE() << lines[0];
  }
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::pair<std::string, std::string> field =
        absl::StrSplit(lines[i], absl::MaxSplits(": ", 1));
    EXPECT_TRUE(answer.fields.insert(field).second) << field.first << " comes twice";
  }
  answer.body = text.substr(end + 4);
  return answer;
}

Answer Get(const HttpServer& server, const std::string& target, const std::string& method = "GET",
           const std::string& host = "localhost") {
  Answer answer =
      Ask(server, absl::StrCat(method, " ", target, " HTTP/1.1\r\nHost: ", host, "\r\n\r\n"));
  if (method != "HEAD") {
    EXPECT_EQ(answer.fields["Content-Length"], absl::StrCat(answer.body.size())) << target;
  }
  return answer;
}

// Whether the goroutine of that name waits.
bool IsWaiting(absl::string_view name) {
  const std::vector<GoroutineSnapshot> all = GetGoroutineSnapshots();
  return std::any_of(all.begin(), all.end(),
                     [&](const GoroutineSnapshot& g) { return g.name == name && g.status == 4; });
}

// Text between tags is escaped, and tags are the pages' own: none that the page has not is there,
// and all that must be closed are.
void ExpectHtml(const std::string& html) {
  EXPECT_THAT(html, StartsWith("<!DOCTYPE html>\n"));
  const std::vector<std::string> must_close = {"html", "body", "main", "nav",     "table", "div",
                                               "form", "pre",  "code", "details", "a",     "ol"};
  std::map<std::string, int> open;
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
    const bool closes = html[at + 1] == '/';
    const size_t begin = at + 1 + (closes ? 1 : 0);
    const std::string name = html.substr(begin, html.find_first_of(" >/\n", begin) - begin);
    EXPECT_NE(name, "img");
    if (name == "script" && !closes) EXPECT_EQ(html.find("<script src=\"/debug/page.js\"", at), at);
    open[name] += closes ? -1 : 1;
    EXPECT_GE(open[name], name == "!DOCTYPE" ? 1 : 0) << name;
  }
  for (const std::string& name : must_close) EXPECT_EQ(open[name], 0) << name;
}

class PagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<HttpServer> server = Serve(":0");
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::make_unique<HttpServer>(*server);
  }
  void TearDown() override { server_->Close(); }
  const HttpServer& server() const { return *server_; }

 private:
  std::unique_ptr<HttpServer> server_;
};

TEST_F(PagesTest, ListensOnThisMachineAlone) {
  EXPECT_EQ(server().address().host(), "127.0.0.1");
  EXPECT_EQ(server().url(),
            absl::StrCat("http://127.0.0.1:", server().address().port(), "/debug/"));
}

const std::vector<std::string>& HtmlPages() {
  static const auto* pages = new std::vector<std::string>{"/debug/",
                                                          "/debug/goroutines",
                                                          "/debug/goroutines?view=list",
                                                          "/debug/goroutines?q=xyz",
                                                          "/debug/sched",
                                                          "/debug/stacks",
                                                          "/debug/netpoll",
                                                          "/debug/pprof/"};
  return *pages;
}

const std::vector<std::string>& OtherPages() {
  static const auto* pages = new std::vector<std::string>{"/debug/sched.json",
                                                          "/debug/schedtrace",
                                                          "/debug/schedtrace?detail=1",
                                                          "/debug/vars",
                                                          "/debug/metrics",
                                                          "/debug/page.css",
                                                          "/debug/page.js",
                                                          "/debug/pprof/goroutine",
                                                          "/debug/pprof/goroutine?debug=1",
                                                          "/debug/pprof/goroutine?debug=2",
                                                          "/debug/pprof/cmdline",
                                                          "/debug/pprof/symbol"};
  return *pages;
}

// Goroutines that hand over, sleep, compute, start and end, until it goes out of scope.
class Load {
 public:
  Load() {
    for (int i = 0; i < 4; ++i) {
      const Chan<int> chan(1);
      Start([this, chan] {
        while (!over_.load(std::memory_order_relaxed)) chan.Send(1);
        chan.Close();
      });
      Start([chan] {
        while (chan.Recv().has_value()) {
        }
      });
      Start([this] {
        while (!over_.load(std::memory_order_relaxed)) {
          WaitGroup child;
          child.Go([] { Yield(); });
          child.Wait();
          Sleep(absl::Microseconds(100));
        }
      });
    }
  }
  ~Load() {
    over_.store(true, std::memory_order_relaxed);
    all_.Wait();
  }

 private:
  template <typename F>
  void Start(F f) {
    all_.Go(std::move(f));
  }

  std::atomic<bool> over_{false};
  WaitGroup all_;
};

// As many queues as Ps are DB-02's, of the one sample as of the lines.
TEST_F(PagesTest, EveryPageUnderLoad) {
  if (!IsTurn("pages", 10)) GTEST_SKIP() << "another one's turn";
  ForEachMaxProcs([this] {
    const Load load;
    for (const std::string& page : HtmlPages()) {
      SCOPED_TRACE(page);
      const Answer answer = Get(server(), page);
      EXPECT_EQ(answer.status, 200);
      EXPECT_EQ(answer.fields.at("Content-Type"), "text/html; charset=utf-8");
      EXPECT_THAT(answer.fields.at("Content-Security-Policy"), HasSubstr("default-src 'none'"));
      ExpectHtml(answer.body);
    }
    for (const std::string& page : OtherPages()) {
      const Answer answer = Get(server(), page);
      EXPECT_EQ(answer.status, 200) << page;
      EXPECT_EQ(answer.fields.at("Cache-Control"), "no-store");
      EXPECT_EQ(answer.fields.at("X-Content-Type-Options"), "nosniff");
      EXPECT_FALSE(answer.body.empty()) << page;
    }
    const auto sample = testing::ParseJson(Get(server(), "/debug/sched.json").body);
    ASSERT_TRUE(sample.has_value());
    EXPECT_EQ(sample->at("gomaxprocs"), absl::StrCat(MaxProcs()));
    EXPECT_EQ(sample->count(absl::StrCat("procs.", MaxProcs() - 1, ".schedtick")), 1u);
    EXPECT_EQ(sample->count(absl::StrCat("procs.", MaxProcs(), ".schedtick")), 0u);
    EXPECT_THAT(sample->at("line"), StartsWith("SCHED "));
    EXPECT_TRUE(testing::ParseJson(Get(server(), "/debug/vars").body).has_value());
    std::string problem;
    testing::ParsePrometheus(Get(server(), "/debug/metrics").body, &problem);
    EXPECT_EQ(problem, "");
  });
}

TEST_F(PagesTest, ManyClientsAtOnce) {
  ForEachMaxProcs([this] {
    WaitGroup clients;
    std::atomic<int> good{0};
    const int count = Rounds(100, 20);
    for (int i = 0; i < count; ++i) {
      clients.Go([&, i] {
        const bool vars = i % 2 == 0;
        const Answer answer = Get(server(), vars ? "/debug/vars" : "/debug/sched.json");
        if (answer.status == 200 && testing::ParseJson(answer.body).has_value()) ++good;
      });
    }
    clients.Wait();
    EXPECT_EQ(good.load(), count);
  });
}

int64_t WaitingIn(const std::string& text, const std::string& what) {
  int64_t count = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

// Also as a dump, which begins as DB-05 has it.
TEST_F(PagesTest, GoroutinesAreGroupedFilteredAndShownAlone) {
  const Chan<int> chan(0);
  constexpr absl::string_view kEvil = "<script>alert('1')</script>\"&";
  std::atomic<uint64_t> evil_id{0};
  for (int i = 0; i < 60; ++i) {
    Go({.name = "plain"}, [chan] { WaitHere(chan); });
  }
  Go({.name = kEvil}, [chan, &evil_id] {
    evil_id.store(GoroutineId(), std::memory_order_release);
    WaitHere(chan);
  });
  EXPECT_TRUE(Eventually([&] {
    const Answer all = Get(server(), "/debug/goroutines?view=list&state=chan+receive&q=waithere");
    return absl::StrContains(all.body, "<p>61 match.</p>");
  }));
  const Answer groups = Get(server(), "/debug/goroutines?q=WaitHere");
  ExpectHtml(groups.body);
  EXPECT_THAT(groups.body, HasSubstr("<summary><b>60</b> <span class=\"state\">chan receive</span> "
                                     "<code>app::WaitHere</code></summary>"));
  EXPECT_THAT(groups.body,
              HasSubstr("WaitHere</code> <span class=\"place mono\">debug/http/serve_test.cc:"));
  EXPECT_THAT(groups.body, HasSubstr("created by <code>"));
  EXPECT_THAT(groups.body, HasSubstr("and 10 more"));
  EXPECT_THAT(groups.body, HasSubstr("<p>61 match.</p>"));

  // Acquire: pairs with the goroutine's release.
  const uint64_t id = evil_id.load(std::memory_order_acquire);
  const Answer one = Get(server(), absl::StrCat("/debug/goroutines?id=", id));
  ExpectHtml(one.body);
  EXPECT_THAT(one.body, HasSubstr(absl::StrCat("<h1>Goroutine ", id, "</h1>")));
  EXPECT_THAT(one.body, HasSubstr("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;"));
  const Answer by_name = Get(server(), "/debug/goroutines?view=list&q=%3Cscript%3E");
  ExpectHtml(by_name.body);
  EXPECT_THAT(by_name.body, HasSubstr("<p>1 match.</p>"));
  EXPECT_THAT(by_name.body, HasSubstr("value=\"&lt;script&gt;\""));
  EXPECT_EQ(Get(server(), "/debug/goroutines?id=99999999").status, 404);
  EXPECT_EQ(Get(server(), "/debug/goroutines?id=x").status, 404);
  const Answer dump = Get(server(), "/debug/pprof/goroutine?debug=2");
  EXPECT_GE(WaitingIn(dump.body, "[chan receive"), 61);
  EXPECT_THAT(dump.body, StartsWith("goroutine "));
  chan.Close();
  EXPECT_TRUE(Eventually([&] {
    const Answer all = Get(server(), "/debug/goroutines?view=list&q=waithere");
    return absl::StrContains(all.body, "<p>0 match.</p>");
  }));
}

TEST_F(PagesTest, FromPlainThreadsAndGoroutines) {
  EXPECT_EQ(HandleHttp("GET", "/debug/goroutines").status, 200);
  RunOnGoroutine([] { EXPECT_EQ(HandleHttp("GET", "/debug/stacks").status, 200); });
}

TEST_F(PagesTest, MethodsAndPathsThatThereAreNot) {
  EXPECT_EQ(Get(server(), "/debug/nothing").status, 404);
  EXPECT_EQ(Get(server(), "/debug/%3Cscript%3E").body,
            "There is no /debug/<script> here; see /debug/.\n");
  EXPECT_EQ(Get(server(), "/debug/%3Cscript%3E").fields.at("Content-Type"),
            "text/plain; charset=utf-8");
  EXPECT_EQ(Get(server(), "/debug/pprof/nothing").status, 404);
  EXPECT_EQ(Get(server(), "/debug/%zz").status, 400);
  EXPECT_EQ(Get(server(), "/").fields.at("Location"), "/debug/");
  EXPECT_EQ(Get(server(), "/debug/pprof").fields.at("Location"), "/debug/pprof/");
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "get"}) {
    const Answer answer = Get(server(), "/debug/vars", method);
    EXPECT_EQ(answer.status, 405) << method;
    EXPECT_EQ(answer.fields.at("Allow"), "GET, HEAD");
  }
  const Answer head = Get(server(), "/debug/page.css", "HEAD");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.body, "");
  EXPECT_EQ(head.fields.at("Content-Length"),
            absl::StrCat(Get(server(), "/debug/page.css").body.size()));
}

TEST_F(PagesTest, OtherNamesOfThisMachineAreRefused) {
  EXPECT_EQ(Get(server(), "/debug/vars", "GET", "evil.example").status, 403);
  EXPECT_EQ(Get(server(), "/debug/vars", "GET", "127.0.0.1.evil.example:80").status, 403);
  EXPECT_EQ(Get(server(), "/debug/vars", "GET", "127.0.0.1:1").status, 200);
  EXPECT_EQ(Get(server(), "/debug/vars", "GET", "[::1]:1").status, 200);
}

TEST(ServeTest, WhoWantsOtherMachinesToSeeItSaysSo) {
  const absl::StatusOr<HttpServer> server = Serve("0.0.0.0:0");
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_THAT(server->url(), StartsWith("http://localhost:"));
  const absl::StatusOr<Conn> conn =
      Dial("tcp", absl::StrCat("127.0.0.1:", server->address().port()));
  ASSERT_TRUE(conn.ok());
  ASSERT_TRUE(conn->Write("GET /debug/ HTTP/1.1\r\nHost: any.example\r\n\r\n").ok());
  std::vector<char> start(12);
  ASSERT_TRUE(conn->ReadFull(absl::MakeSpan(start)).ok());
  EXPECT_EQ(std::string(start.begin(), start.end()), "HTTP/1.1 200");
  server->Close();
}

TEST_F(PagesTest, SymbolsAreNamedByGetAndPost) {
  const std::string pc = absl::StrCat("0x", absl::Hex(reinterpret_cast<uintptr_t>(&WaitHere)));
  const std::string wanted = absl::StrCat("num_symbols: 1\n", pc, " app::WaitHere\n");
  EXPECT_EQ(Get(server(), absl::StrCat("/debug/pprof/symbol?", pc)).body, wanted);
  const std::string body = absl::StrCat(pc, "+0x1");
  EXPECT_EQ(Ask(server(), absl::StrCat("POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\n"
                                       "Content-Length: ",
                                       body.size(), "\r\n\r\n", body))
                .body,
            wanted);
  EXPECT_EQ(Get(server(), "/debug/pprof/symbol").body, "num_symbols: 1\n");
}

TEST_F(PagesTest, TracesAreDownloaded) {
  const Answer trace = Get(server(), "/debug/pprof/trace?seconds=0.05");
  EXPECT_EQ(trace.status, 200);
  EXPECT_EQ(trace.fields.at("Content-Type"), "application/json");
  EXPECT_THAT(trace.fields.at("Content-Disposition"), HasSubstr("attachment"));
  EXPECT_THAT(trace.body, HasSubstr("traceEvents"));
  for (const char* seconds : {"-1", "x", "301", "nan", "inf"}) {
    EXPECT_EQ(Get(server(), absl::StrCat("/debug/pprof/trace?seconds=", seconds)).status, 400);
  }
  // One that the program records goes on.
  ASSERT_TRUE(StartTrace({.bytes = 1 << 20}).ok());
  EXPECT_THAT(Get(server(), "/debug/pprof/trace?seconds=1").body, HasSubstr("traceEvents"));
  EXPECT_TRUE(TraceRuns());
  EXPECT_TRUE(StopTrace([](absl::string_view) {}).ok());
}

TEST_F(PagesTest, ProcessorTimeIsProfiled) {
  const Answer profile = Get(server(), "/debug/pprof/profile?seconds=0.05");
  EXPECT_EQ(profile.status, 200);
  EXPECT_EQ(profile.fields.at("Content-Type"), "application/octet-stream");
  EXPECT_THAT(profile.body, StartsWith("\x1f\x8b"));  // gzip
  EXPECT_EQ(Get(server(), "/debug/pprof/profile?seconds=x").status, 400);
  ASSERT_TRUE(StartCpuProfile().ok());
  EXPECT_EQ(Get(server(), "/debug/pprof/profile?seconds=0").status, 409);
  EXPECT_TRUE(StopCpuProfile([](absl::string_view) {}).ok());
}

TEST_F(PagesTest, ProfilesAreDownloaded) {
  const Answer profile = Get(server(), "/debug/pprof/goroutine");
  EXPECT_EQ(profile.fields.at("Content-Type"), "application/octet-stream");
  EXPECT_EQ(profile.fields.at("Content-Disposition"), "attachment; filename=\"goroutine.pb.gz\"");
  EXPECT_THAT(profile.body, StartsWith("\x1f\x8b"));  // gzip
  EXPECT_EQ(Get(server(), "/debug/pprof/goroutine?debug=x").status, 400);
  EXPECT_THAT(Get(server(), "/debug/pprof/goroutine?debug=1").body,
              StartsWith("goroutine profile: total "));
  EXPECT_EQ(Get(server(), "/debug/pprof/block?seconds=1&debug=1").status, 400);
  EXPECT_EQ(Get(server(), "/debug/pprof/block?seconds=x").status, 400);
  // Each that there is has a line, and is there.
  const std::string index = Get(server(), "/debug/pprof/").body;
  for (const ProfileInfo& info : Profiles()) {
    EXPECT_THAT(index, HasSubstr(absl::StrCat("<a href=\"/debug/pprof/", info.name, "\">")));
    EXPECT_EQ(Get(server(), absl::StrCat("/debug/pprof/", info.name)).status, 200) << info.name;
  }
}

// With "seconds" they are of what comes within that time, of which a reader finds the length in the
// file.
TEST_F(PagesTest, ProfilesOfATimeHaveWhatCameInIt) {
  SetBlockProfileRate(absl::Nanoseconds(1));
  const auto wait_in = [](void (*wait)(const Chan<int>&)) {
    RunOnGoroutine([wait] {
      const Chan<int> chan(0);
      WaitGroup done;
      done.Add(1);
      Go({.name = "waiter"}, [&] {
        wait(chan);
        done.Done();
      });
      while (!IsWaiting("waiter")) Yield();
      chan.Close();
      done.Wait();
    });
  };
  wait_in(app::WaitBefore);
  const DecodedProfile all = DecodeProfile(Get(server(), "/debug/pprof/block").body);
  EXPECT_GE(all.Sum("WaitBefore"), 1);
  EXPECT_EQ(all.duration_nanos, 0);

  std::atomic<bool> stop{false};
  std::thread others([&] {
    while (!stop.load()) wait_in(app::WaitMeanwhile);
  });
  DecodedProfile some;
  EXPECT_TRUE(Eventually([&] {
    const absl::Time asked = absl::Now();
    some = DecodeProfile(Get(server(), "/debug/pprof/block?seconds=0.05").body);
    const auto length = absl::Nanoseconds(some.duration_nanos);
    EXPECT_GE(length, absl::Milliseconds(49));  // one clock for sleeps, another for dates
    EXPECT_LE(length, absl::Now() - asked);
    return some.Sum("WaitMeanwhile") > 0;
  }));
  EXPECT_EQ(some.Find("WaitBefore"), nullptr);
  for (const DecodedProfile::Sample& sample : some.samples) EXPECT_GT(sample.values[0], 0);
  stop.store(true);
  others.join();
  SetBlockProfileRate(absl::ZeroDuration());
}

TEST_F(PagesTest, BrokenRequestsAreAnsweredWithWhatIsWrong) {
  EXPECT_EQ(Ask(server(), "nonsense\r\n\r\n").status, 400);
  EXPECT_EQ(Ask(server(), "GET / HTTP/1.1\r\n\r\n").status, 400);
  EXPECT_EQ(Ask(server(), "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n").status, 505);
  EXPECT_EQ(
      Ask(server(), absl::StrCat("GET /", std::string(20'000, 'a'), " HTTP/1.1\r\n\r\n")).status,
      431);
  EXPECT_EQ(Ask(server(),
                "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\n"
                "Content-Length: 1000000\r\n\r\n")
                .status,
            413);
  // A body that nobody reads does not take the answer with it.
  EXPECT_EQ(Ask(server(), absl::StrCat("PUT /debug/vars HTTP/1.1\r\nHost: localhost\r\n"
                                       "Content-Length: 300000\r\n\r\n",
                                       std::string(300'000, 'x')))
                .status,
            413);
  EXPECT_EQ(Get(server(), "/debug/vars").status, 200);
}

// More clients that say nothing than are served at a time: those that do wait until some are given
// up, or leave.
TEST_F(PagesTest, SilentClientsHoldOthersUpAndNoLonger) {
  std::vector<Conn> silent;
  for (int i = 0; i < 40; ++i) {
    const absl::StatusOr<Conn> conn = Dial("tcp", server().address().ToString());
    ASSERT_TRUE(conn.ok());
    silent.push_back(*conn);
  }
  for (const Conn& conn : silent) conn.Close().IgnoreError();
  EXPECT_EQ(Get(server(), "/debug/vars").status, 200);
}

TEST(ServeTest, CloseEndsItAndItsConnections) {
  ForEachMaxProcs([] {
    const absl::StatusOr<HttpServer> server = Serve("127.0.0.1:0");
    ASSERT_TRUE(server.ok()) << server.status();
    EXPECT_EQ(Get(*server, "/debug/vars").status, 200);
    const absl::StatusOr<Conn> idle = Dial("tcp", server->address().ToString());
    ASSERT_TRUE(idle.ok());
    const std::string address = server->address().ToString();
    server->Close();
    server->Close();
    std::vector<char> byte(1);
    // The end of the stream, or a reset where it was not accepted yet; not the time limit.
    idle->SetReadDeadline(absl::Now() + absl::Seconds(60)).IgnoreError();
    const absl::StatusOr<size_t> n = idle->Read(absl::MakeSpan(byte));
    EXPECT_FALSE(IsTimeout(n.status())) << n.status();
    EXPECT_FALSE(Dial("tcp", address).ok());
  });
}

TEST(ServeTest, AddressesThatCannotBeHadAreErrors) {
  EXPECT_FALSE(Serve("nonsense").ok());
  EXPECT_FALSE(Serve("127.0.0.1:99999").ok());
  const absl::StatusOr<HttpServer> first = Serve(":0");
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(Serve(first->address().ToString()).ok());
  first->Close();
}

}  // namespace
}  // namespace weft::debug
