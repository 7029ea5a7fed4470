// The pages under /debug/, for any HTTP server: serve.h has one.
//
//   const weft::debug::HttpReply reply = weft::debug::HandleHttp("GET",
//   "/debug/goroutines?q=chan"); Send(reply.status, reply.content_type, reply.body);
//
//   /debug/                 what there is
//   /debug/goroutines       all goroutines, those that wait at the same place once; ?q=TEXT
//   filters,
//                           ?view=list has a line each, ?id=N is one alone
//   /debug/sched            what each P and thread does, with charts that go on
//   /debug/sched.json       one sample of it
//   /debug/schedtrace       the SCHED line of this moment; ?detail=1 with all details
//   /debug/stacks           memory of stacks: slots, rests, moves
//   /debug/netpoll          how files are read, who waits for what, open descriptors
//   /debug/vars             all figures as JSON
//   /debug/metrics          the same as Prometheus reads them
//   /debug/pprof/           profiles under Go's paths
//
// They show a program's insides: who mounts them says who may read them.
#ifndef WEFT_DEBUG_HTTP_HANDLER_H_
#define WEFT_DEBUG_HTTP_HANDLER_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace weft::debug {

struct HttpReply {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  // Besides Content-Type: Allow, Location, Cache-Control, what a browser may do with the page.
  std::vector<std::pair<std::string, std::string>> fields;
  std::string body;  // also to HEAD, for which a server sends its length alone
};

// Answers a request for `target` ("/debug/goroutines?q=chan", as in the request line), for paths
// that are none of these too: 404. 405 for methods but GET and HEAD, and POST for
// /debug/pprof/symbol, which reads `body`. Takes from 10 us to seconds, as a profile takes as long
// as it was asked to. From goroutines and threads; may park.
HttpReply HandleHttp(absl::string_view method, absl::string_view target,
                     absl::string_view body = {});

}  // namespace weft::debug

#endif  // WEFT_DEBUG_HTTP_HANDLER_H_
