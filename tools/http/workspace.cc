#include "tools/http/workspace.h"

#include <cstring>
#include <string>
#include <utility>

namespace weft::http {

absl::Span<char> Workspace::Room() {
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return {buffer_.get() + end_, capacity_ - end_};
}

void Workspace::Consume(size_t n) {
  begin_ += n;
  if (begin_ == end_) begin_ = end_ = 0;
}

void Workspace::ConsumeBehind(size_t keep, size_t n) {
  char* const at = buffer_.get() + begin_ + keep;
  std::memmove(at, at + n, end_ - begin_ - keep - n);
  end_ -= n;
}

std::unique_ptr<Workspace> WorkspacePool::Take() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!kept_.empty()) {
      std::unique_ptr<Workspace> workspace = std::move(kept_.back());
      kept_.pop_back();
      return workspace;
    }
  }
  return std::make_unique<Workspace>(capacity_);
}

void WorkspacePool::Give(std::unique_ptr<Workspace> workspace) {
  workspace->begin_ = workspace->end_ = 0;
  workspace->reply.file.Reset();
  if (workspace->reply.bytes.capacity() > kMostReplyBytes)
    std::string().swap(workspace->reply.bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  if (kept_.size() < kMostKept) kept_.push_back(std::move(workspace));
}

}  // namespace weft::http
