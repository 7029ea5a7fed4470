#include "debug/http/handler.h"

#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "debug/http/page.h"
#include "debug/http/request.h"
#include "debug/http/text.h"
#include "debug/http/vars.h"

namespace weft::debug {
namespace {

using internal::Html;
using internal::Target;

HttpReply IndexPage() {
  Html html;
  html.Markup(
      "<h1>Inside</h1>\n<div class=\"wide\"><table><tbody>\n"
      "<tr><th><a href=\"/debug/goroutines\">goroutines</a><td>what each one does or waits for, "
      "and where</tr>\n"
      "<tr><th><a href=\"/debug/sched\">sched</a><td>Ps, threads and queues, live</tr>\n"
      "<tr><th><a href=\"/debug/schedtrace?detail=1\">schedtrace</a><td>the same as text, "
      "once</tr>\n"
      "<tr><th><a href=\"/debug/stacks\">stacks</a><td>what they take, how they rest and "
      "move</tr>\n"
      "<tr><th><a href=\"/debug/netpoll\">netpoll</a><td>files, waits, descriptors</tr>\n"
      "<tr><th><a href=\"/debug/vars\">vars</a><td>all figures as JSON</tr>\n"
      "<tr><th><a href=\"/debug/metrics\">metrics</a><td>all figures for Prometheus</tr>\n"
      "<tr><th><a href=\"/debug/pprof/\">pprof</a><td>profiles</tr>\n"
      "</tbody></table></div>\n");
  return internal::Page("debug", html);
}

HttpReply Redirect(absl::string_view to) {
  HttpReply reply;
  reply.status = 302;
  reply.fields.emplace_back("Location", std::string(to));
  reply.body = absl::StrCat("See ", to, "\n");
  return reply;
}

HttpReply Asset(absl::string_view type, absl::string_view text) {
  HttpReply reply;
  reply.content_type = absl::StrCat(type, "; charset=utf-8");
  reply.body = std::string(text);
  return reply;
}

HttpReply Dispatch(const Target& target, absl::string_view body) {
  absl::string_view page = target.path;
  if (page == "/" || page == "/debug") return Redirect("/debug/");
  if (page == "/debug/pprof") return Redirect("/debug/pprof/");
  if (!absl::ConsumePrefix(&page, "/debug/")) return internal::NotFound(target.path);
  if (page.empty()) return IndexPage();
  if (page == "goroutines") return internal::GoroutinesPage(target);
  if (page == "sched") return internal::SchedPage();
  if (page == "sched.json") return internal::SchedSample();
  if (page == "schedtrace") return internal::SchedTracePage(target);
  if (page == "stacks") return internal::StacksPage();
  if (page == "netpoll") return internal::NetpollPage();
  if (page == "vars") {
    return Asset("application/json", internal::FormatJson(internal::GetVariables()));
  }
  if (page == "metrics") {
    return Asset("text/plain; version=0.0.4", internal::FormatPrometheus(internal::GetVariables()));
  }
  if (page == "page.css") return Asset("text/css", internal::kStyle);
  if (page == "page.js") return Asset("text/javascript", internal::kScript);
  if (absl::ConsumePrefix(&page, "pprof/")) return internal::PprofPage(page, target, body);
  return internal::NotFound(target.path);
}

HttpReply Refusal(int status, absl::string_view text) {
  HttpReply reply;
  reply.status = status;
  reply.body = std::string(text);
  return reply;
}

HttpReply Answer(absl::string_view method, absl::string_view target, absl::string_view body) {
  const std::optional<Target> parsed = internal::ParseTarget(target);
  if (!parsed.has_value()) return Refusal(400, "The target is malformed.\n");
  const bool may_post = parsed->path == "/debug/pprof/symbol";
  if (method != "GET" && method != "HEAD" && !(may_post && method == "POST")) {
    HttpReply reply = Refusal(405, "Pages are read by GET.\n");
    reply.fields.emplace_back("Allow", may_post ? "GET, HEAD, POST" : "GET, HEAD");
    return reply;
  }
  return Dispatch(*parsed, body);
}

}  // namespace

HttpReply HandleHttp(absl::string_view method, absl::string_view target, absl::string_view body) {
  HttpReply reply = Answer(method, target, body);
  reply.fields.emplace_back("Cache-Control", "no-store");
  reply.fields.emplace_back("X-Content-Type-Options", "nosniff");
  reply.fields.emplace_back("Referrer-Policy", "no-referrer");
  // No other site may show a page of ours in a frame, or read what a script of its own has loaded.
  reply.fields.emplace_back("X-Frame-Options", "DENY");
  reply.fields.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
  reply.fields.emplace_back(
      "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
      "form-action 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'");
  return reply;
}

}  // namespace weft::debug
