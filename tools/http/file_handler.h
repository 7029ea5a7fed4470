// Answers GET and HEAD with the files of a directory.
//
//   FileHandler handler(std::move(root));
//   Reply reply;
//   reply.Reset(request, keep_alive);
//   handler.Handle(request, reply);   // reply.bytes and reply.parts are what to send
//
// - A file: 200; 206 for one range; 206 with multipart/byteranges for several; 304, 412 and 416 as
//   its validators have it. The entity tag is made of modification time (ns) and size.
// - A directory: its index.html, else a listing; without a slash at its end, 301 to where there
//   is one.
// - 404 for what is not there and for what leads out of the root, 403 for what the system does not
//   let us read, 503 where descriptors have run out.
// - 400 for a malformed target, 405 for other methods, 501 for what is none.
#ifndef WEFT_TOOLS_HTTP_FILE_HANDLER_H_
#define WEFT_TOOLS_HTTP_FILE_HANDLER_H_

#include <cstddef>
#include <string>
#include <utility>

#include "tools/http/reply.h"
#include "tools/http/request.h"
#include "tools/http/root.h"

namespace weft::http {

class FileHandler {
 public:
  explicit FileHandler(Root root);

  // Builds the answer. `reply` has been Reset(). Where it has to wait for a disk it blocks the
  // thread, in a BlockingSection. From any number of goroutines and threads at once.
  void Handle(const Request& request, Reply& reply) const;

  // Up to this many bytes of a file are read into Reply::bytes, to go out with the head.
  static constexpr size_t kInlineBytes = 16 << 10;

 private:
  Root root_;
  std::string boundary_;  // between the parts of a multipart answer; no file can guess it
};

}  // namespace weft::http

#endif  // WEFT_TOOLS_HTTP_FILE_HANDLER_H_
