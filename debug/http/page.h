// What the pages share: the frame around each, and the one style sheet and script.
#ifndef WEFT_DEBUG_HTTP_PAGE_H_
#define WEFT_DEBUG_HTTP_PAGE_H_

#include "absl/strings/string_view.h"
#include "debug/http/handler.h"
#include "debug/http/request.h"
#include "debug/http/text.h"

namespace weft::debug::internal {

// A whole page, with links to the others. Browsers load nothing from elsewhere for it, and run no
// script but kScript.
HttpReply Page(absl::string_view title, const Html& body);

HttpReply PlainText(std::string text);
HttpReply NotFound(absl::string_view what);

extern const absl::string_view kStyle;   // /debug/page.css
extern const absl::string_view kScript;  // /debug/page.js

// "12.3 MiB".
std::string FormatBytes(uint64_t bytes);

// The pages; each file of the same name.
HttpReply GoroutinesPage(const Target& target);
HttpReply SchedPage();
HttpReply SchedSample();                         // /debug/sched.json
HttpReply SchedTracePage(const Target& target);  // /debug/schedtrace
HttpReply StacksPage();
HttpReply NetpollPage();
// `name`: what follows /debug/pprof/.
HttpReply PprofPage(absl::string_view name, const Target& target, absl::string_view body);

}  // namespace weft::debug::internal

#endif  // WEFT_DEBUG_HTTP_PAGE_H_
