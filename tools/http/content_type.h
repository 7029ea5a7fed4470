// What kind of thing a file is, by its name.
#ifndef WEFT_TOOLS_HTTP_CONTENT_TYPE_H_
#define WEFT_TOOLS_HTTP_CONTENT_TYPE_H_

#include "absl/strings/string_view.h"

namespace weft::http {

// The value of Content-Type for a file of this name or path: a literal. By the extension, without
// regard to case, or by the whole name for those that have none (Makefile, LICENSE). Source code
// of all kinds is text/plain, so that browsers show it instead of saving or running it; what is not
// known is application/octet-stream.
absl::string_view ContentType(absl::string_view path);

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_CONTENT_TYPE_H_
