// The standard streams of one command: what the child gets, and what has to be carried to and from
// it meanwhile.
#ifndef WEFT_SPAWN_INTERNAL_STREAMS_H_
#define WEFT_SPAWN_INTERNAL_STREAMS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/internal/ready_set.h"
#include "spawn/pipe_end.h"
#include "spawn/stdio.h"

namespace weft {

// What Input and Output keep to themselves.
class StdioAccess {
 public:
  using InputKind = Input::Kind;
  using OutputKind = Output::Kind;

  static InputKind kind(const Input& input) { return input.kind_; }
  static int fd(const Input& input) { return input.fd_; }
  static std::string& text(Input& input) { return input.text_; }
  static Input::Reader& reader(Input& input) { return input.reader_; }

  static OutputKind kind(const Output& output) { return output.kind_; }
  static int fd(const Output& output) { return output.fd_; }
  static const std::string& path(const Output& output) { return output.path_; }
  static bool append(const Output& output) { return output.how_ == Output::Open::kAppend; }
  static std::string* text(const Output& output) { return output.text_; }
  static Output::Writer& writer(Output& output) { return output.writer_; }
};

namespace spawn::internal {

class Streams {
 public:
  Streams() = default;
  ~Streams() { CloseAll(); }
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  // Opens all that the child gets as 0, 1 and 2. What it fails at is said by the error, and nothing
  // stays open then.
  absl::Status Open(Input input, Output out, Output err);

  // The same with a terminal as all three. It is the child's controlling terminal if that is asked
  // for in the attributes, as descriptor 0.
  absl::Status OpenTerminal(int rows, int columns);

  // Which of this process's descriptors they are.
  const std::vector<int>& child_files() const { return child_files_; }
  // After the start.
  void CloseChildEnds();
  void CloseAll();

  PipeEnd in, out, err, terminal;

  // Whether Carry() has anything to do. The places of the set after the first are ours.
  bool busy() const { return feed_.fd >= 0 || drains_[0].fd >= 0 || drains_[1].fd >= 0; }
  void Watch(ReadySet& set) const;
  // Moves what can be moved now. Runs the callbacks.
  void Carry(ReadySet& set);
  // Gives up what is still under way, the caller's pipe ends included. True: there was something.
  bool Abandon();

  // What went wrong in carrying, if anything. That the child did not read all of its input is not
  // an error.
  const absl::Status& error() const { return error_; }

 private:
  static constexpr size_t kFeedPlace = 1;
  static constexpr size_t kDrainPlace = 2;

  struct Feed {
    int fd = -1;
    std::string bytes;
    size_t sent = 0;
    Input::Reader reader;
  };
  struct Drain {
    int fd = -1;
    std::string* text = nullptr;
    Output::Writer writer;
  };

  absl::StatusOr<int> OpenFile(const std::string& path, int flags);
  // /dev/null, the same descriptor each time.
  absl::StatusOr<int> OpenNull();
  // A pipe, whose ends for the child and for us are given back.
  absl::Status OpenPipe(bool child_reads, int* ours);
  absl::Status OpenInput(Input& input);
  absl::Status OpenOutput(Output& output, int inherited, Drain& drain, PipeEnd& end);
  // True: there is more to come.
  bool CarryInput();
  bool CarryOutput(Drain& drain);

  std::vector<int> child_files_;
  std::vector<int> child_ends_;  // of these, those that are to be closed, each once
  int null_ = -1;                // one of those, or -1
  Feed feed_;
  Drain drains_[2];
  std::string buffer_;
  absl::Status error_;
};

}  // namespace spawn::internal
}  // namespace weft

#endif  // WEFT_SPAWN_INTERNAL_STREAMS_H_
