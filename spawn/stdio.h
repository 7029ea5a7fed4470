// What a command's standard input is, and where its outputs go.
//
//   weft::Command("sort", {"-u"}, {.in = weft::Input::Bytes(lines), .out =
//   weft::Output::To(&sorted)});
#ifndef WEFT_SPAWN_STDIO_H_
#define WEFT_SPAWN_STDIO_H_

#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/strings/string_view.h"

namespace weft {

// Callbacks run one at a time, on the goroutine or thread that looks after the command: while one
// of them waits for something, nothing else of this command is read, written or timed. Use a Pipe()
// for what may take long.
class Input {
 public:
  // The next piece; "" is the end. Not called again after that.
  using Reader = absl::AnyInvocable<std::string()>;

  // Nothing: the child reads /dev/null.
  Input() = default;
  // These bytes, then the end.
  static Input Bytes(std::string bytes) { return Input(Kind::kBytes, -1, std::move(bytes)); }
  // What the function returns, piece by piece.
  static Input From(Reader reader);
  // This descriptor, which stays the caller's, and open until the start.
  static Input Fd(int fd) { return Input(Kind::kFd, fd, ""); }
  // This process's own standard input.
  static Input Inherited() { return Fd(0); }
  static Input File(std::string path) { return Input(Kind::kFile, -1, std::move(path)); }
  // What the caller writes to Command::in().
  static Input Pipe() { return Input(Kind::kPipe, -1, ""); }

 private:
  friend class StdioAccess;
  enum class Kind { kNothing, kBytes, kReader, kFd, kFile, kPipe };

  Input(Kind kind, int fd, std::string text) : kind_(kind), fd_(fd), text_(std::move(text)) {}

  Kind kind_ = Kind::kNothing;
  int fd_ = -1;
  std::string text_;  // the bytes, or the path
  Reader reader_;
};

class Output {
 public:
  using Writer = absl::AnyInvocable<void(absl::string_view)>;
  enum class Open { kTruncate, kAppend };

  // Nowhere: the child writes to /dev/null.
  Output() = default;
  // Appended to *text, which is complete when Wait() has returned, and not to be touched before.
  static Output To(std::string* text);
  // Passed to the function as it comes.
  static Output By(Writer writer);
  static Output Fd(int fd) { return Output(Kind::kFd, fd, ""); }
  // This process's own standard output, or error.
  static Output Inherited() { return Output(Kind::kInherited, -1, ""); }
  // Created with mode 0666 where it does not exist.
  static Output File(std::string path, Open how = Open::kTruncate);
  // What the caller reads from Command::out() or err().
  static Output Pipe() { return Output(Kind::kPipe, -1, ""); }
  // For the standard error alone: the same as the standard output, in the order of the writes.
  static Output SameAsOut() { return Output(Kind::kSameAsOut, -1, ""); }

 private:
  friend class StdioAccess;
  enum class Kind { kNothing, kText, kWriter, kFd, kInherited, kFile, kPipe, kSameAsOut };

  Output(Kind kind, int fd, std::string path) : kind_(kind), fd_(fd), path_(std::move(path)) {}

  Kind kind_ = Kind::kNothing;
  int fd_ = -1;
  Open how_ = Open::kTruncate;
  std::string path_;
  std::string* text_ = nullptr;
  Writer writer_;
};

inline Input Input::From(Reader reader) {
  Input input(Kind::kReader, -1, "");
  input.reader_ = std::move(reader);
  return input;
}

inline Output Output::To(std::string* text) {
  Output output(Kind::kText, -1, "");
  output.text_ = text;
  return output;
}

inline Output Output::By(Writer writer) {
  Output output(Kind::kWriter, -1, "");
  output.writer_ = std::move(writer);
  return output;
}

inline Output Output::File(std::string path, Open how) {
  Output output(Kind::kFile, -1, std::move(path));
  output.how_ = how;
  return output;
}

}  // namespace weft

#endif  // WEFT_SPAWN_STDIO_H_
