#include "netpoll/buffered.h"

#include <string.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace weft {

// Makes `n` bytes the caller's.
absl::string_view BufferedReader::Take(size_t n) {
  const absl::string_view taken = data().substr(0, n);
  begin_ += taken.size();
  return taken;
}

// Reads until there are `n` bytes or the stream ends (at_end_).
absl::Status BufferedReader::Fill(size_t n) {
  at_end_ = false;
  while (buffered() < n) {
    if (begin_ == end_) begin_ = end_ = 0;
    // Room for what is asked for, and enough to make a read worth while.
    if (capacity_ - end_ < std::max(n - buffered(), step_ / 2)) {
      if (n + step_ / 2 > capacity_) {
        capacity_ = std::max({step_, n + step_ / 2, capacity_ * 2});
        auto larger = std::make_unique<char[]>(capacity_);
        if (buffered() > 0) memcpy(larger.get(), buffer_.get() + begin_, buffered());
        buffer_ = std::move(larger);
      } else {
        memmove(buffer_.get(), buffer_.get() + begin_, buffered());
      }
      end_ -= begin_;
      begin_ = 0;
    }
    const absl::StatusOr<size_t> got =
        read_(absl::MakeSpan(buffer_.get() + end_, capacity_ - end_));
    if (!got.ok()) return got.status();
    if (*got == 0) {
      at_end_ = true;
      break;
    }
    end_ += *got;
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> BufferedReader::Read(absl::Span<char> buffer) {
  if (buffer.empty()) return size_t{0};
  if (buffered() == 0) {
    if (buffer.size() >= step_) return read_(buffer);
    if (absl::Status status = Fill(1); !status.ok()) return status;
  }
  const absl::string_view taken = Take(buffer.size());
  std::copy(taken.begin(), taken.end(), buffer.begin());
  return taken.size();
}

absl::Status BufferedReader::ReadExact(absl::Span<char> buffer) {
  const absl::StatusOr<absl::string_view> taken = ReadExact(buffer.size());
  if (!taken.ok()) return taken.status();
  std::copy(taken->begin(), taken->end(), buffer.begin());
  return absl::OkStatus();
}

absl::StatusOr<absl::string_view> BufferedReader::ReadExact(size_t n) {
  if (absl::Status status = Fill(n); !status.ok()) return status;
  if (buffered() < n) return absl::OutOfRangeError(buffered() == 0 ? "EOF" : "unexpected EOF");
  return Take(n);
}

// Where the next delimiter ends, or OutOfRange or ResourceExhausted. Each byte is looked at once.
absl::StatusOr<size_t> BufferedReader::FindEnd(char delimiter, size_t max) {
  for (size_t seen = 0;;) {
    const absl::string_view text = data().substr(0, max);
    const size_t at = text.find(delimiter, seen);
    if (at != absl::string_view::npos) return at + 1;
    seen = text.size();
    if (seen == max) return absl::ResourceExhaustedError("line too long");
    if (absl::Status status = Fill(seen + 1); !status.ok()) return status;
    if (at_end_) return absl::OutOfRangeError(seen == 0 ? "EOF" : "unexpected EOF");
  }
}

absl::StatusOr<absl::string_view> BufferedReader::ReadUntil(char delimiter, size_t max) {
  const absl::StatusOr<size_t> end = FindEnd(delimiter, max);
  if (!end.ok()) return end.status();
  return Take(*end);
}

absl::StatusOr<absl::string_view> BufferedReader::ReadLine(size_t max) {
  const absl::StatusOr<size_t> end = FindEnd('\n', max);
  if (!end.ok()) {
    const bool last = absl::IsOutOfRange(end.status()) && at_end_ && buffered() > 0;
    if (!last) return end.status();
    return Take(buffered());
  }
  absl::string_view line = Take(*end);
  line.remove_suffix(1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

absl::StatusOr<absl::string_view> BufferedReader::Peek(size_t n) {
  if (absl::Status status = Fill(n); !status.ok()) return status;
  return data().substr(0, n);
}

absl::Status BufferedWriter::Write(absl::string_view data) {
  if (buffer_.size() + data.size() > size_) {
    if (absl::Status status = Flush(); !status.ok()) return status;
  }
  if (!error_.ok()) return error_;
  if (data.size() > size_) {
    error_ = write_(data);
  } else {
    buffer_.append(data.data(), data.size());
  }
  return error_;
}

absl::Status BufferedWriter::Flush() {
  if (error_.ok() && !buffer_.empty()) {
    error_ = write_(buffer_);
    if (error_.ok()) buffer_.clear();
  }
  return error_;
}

}  // namespace weft
