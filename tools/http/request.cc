#include "tools/http/request.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "tools/http/beast.h"

namespace weft::http {
namespace {

namespace beast = boost::beast;
using State = ParseResult::State;

absl::string_view View(beast::string_view s) { return {s.data(), s.size()}; }

Method MethodOf(beast::http::verb verb) {
  switch (verb) {
    case beast::http::verb::get:
      return Method::kGet;
    case beast::http::verb::head:
      return Method::kHead;
    case beast::http::verb::unknown:
      return Method::kUnknown;
    default:
      return Method::kOther;
  }
}

// Keeps what Request has room for, and refuses what Beast lets through and a server must not.
class Parser final : public beast::http::basic_parser<true> {
 public:
  Parser(absl::string_view input, Request& request) : input_(input), request_(request) {}

  bool saw_request_line() const { return saw_request_line_; }
  int status() const { return status_; }
  absl::string_view problem() const { return problem_; }
  bool saw_host() const { return saw_host_; }
  bool saw_transfer_encoding() const { return saw_transfer_encoding_; }

 private:
  using Error = beast::error_code;

  void on_request_impl(beast::http::verb method, beast::string_view method_name,
                       beast::string_view target, int version, Error&) override {
    saw_request_line_ = true;
    request_.method = MethodOf(method);
    request_.method_name = View(method_name);
    request_.target = View(target);
    request_.minor_version = version - 10;
    request_.version_line = {target.data() + target.size() + 1, 8};
  }

  void on_field_impl(beast::http::field name, beast::string_view, beast::string_view value,
                     Error& error) override {
    // Beast joins a folded value in a buffer of its own, which ends with the call. RFC 9112 (5.2)
    // has servers refuse folding.
    if (!value.empty() && (value.data() < input_.data() ||
                           value.data() + value.size() > input_.data() + input_.size())) {
      return Refuse(400, "a header field is folded over several lines", error);
    }
    using Name = beast::http::field;
    switch (name) {
      case Name::host:
        if (saw_host_) return Refuse(400, "there is more than one Host field", error);
        saw_host_ = true;
        break;
      case Name::transfer_encoding:
        saw_transfer_encoding_ = true;
        break;
      case Name::expect:
        request_.expects_continue = absl::EqualsIgnoreCase(View(value), "100-continue");
        request_.unknown_expectation |= !request_.expects_continue;
        break;
      case Name::range:
        Once(kRange, request_.range, value);
        break;
      case Name::if_match:
        Once(kIfMatch, request_.if_match, value);
        break;
      case Name::if_none_match:
        Once(kIfNoneMatch, request_.if_none_match, value);
        break;
      case Name::if_modified_since:
        Once(kIfModifiedSince, request_.if_modified_since, value);
        break;
      case Name::if_unmodified_since:
        Once(kIfUnmodifiedSince, request_.if_unmodified_since, value);
        break;
      case Name::if_range:
        request_.has_if_range = true;
        Once(kIfRange, request_.if_range, value);
        break;
      default:
        break;
    }
  }

  void on_header_impl(Error&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, Error&) override {}
  std::size_t on_body_impl(beast::string_view body, Error&) override { return body.size(); }
  void on_chunk_header_impl(std::uint64_t, beast::string_view, Error&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body, Error&) override {
    return body.size();
  }
  void on_response_impl(int, beast::string_view, int, Error&) override {}
  void on_finish_impl(Error&) override {}

  enum Field : uint32_t {
    kRange = 1,
    kIfMatch = 2,
    kIfNoneMatch = 4,
    kIfModifiedSince = 8,
    kIfUnmodifiedSince = 16,
    kIfRange = 32,
  };

  void Once(Field field, absl::string_view& slot, beast::string_view value) {
    slot = (seen_ & field) != 0 ? absl::string_view() : View(value);
    seen_ |= field;
  }

  void Refuse(int status, absl::string_view problem, Error& error) {
    status_ = status;
    problem_ = problem;
    error = beast::http::error::bad_value;
  }

  const absl::string_view input_;
  Request& request_;
  uint32_t seen_ = 0;
  int status_ = 0;
  absl::string_view problem_;
  bool saw_request_line_ = false;
  bool saw_host_ = false;
  bool saw_transfer_encoding_ = false;
};

ParseResult Bad(int status, absl::string_view problem) { return {State::kBad, 0, status, problem}; }

// Whether the first line ends in a well-formed version: Beast has one error for versions that it
// does not know and for what is no version at all.
bool EndsInVersion(absl::string_view input) {
  absl::string_view line = input.substr(0, input.find('\r'));
  if (line.size() < 8) return false;
  absl::string_view version = line.substr(line.size() - 8);
  return absl::StartsWith(version, "HTTP/") && absl::ascii_isdigit(version[5]) &&
         version[6] == '.' && absl::ascii_isdigit(version[7]);
}

ParseResult TooLarge(const Parser& parser) {
  if (parser.saw_request_line()) return Bad(431, "the header fields are too long");
  return Bad(414, "the request line is too long");
}

ParseResult Explain(const beast::error_code& code, const Parser& parser, absl::string_view input) {
  using Error = beast::http::error;
  if (parser.status() != 0) return Bad(parser.status(), parser.problem());
  if (code == Error::header_limit) return TooLarge(parser);
  if (code == Error::bad_version) {
    if (EndsInVersion(input)) return Bad(505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
    return Bad(400, "the request line does not end in a version of HTTP");
  }
  if (code == Error::bad_method) return Bad(400, "the request does not begin with a method");
  if (code == Error::bad_target) return Bad(400, "the request's target is malformed");
  if (code == Error::bad_content_length) return Bad(400, "the Content-Length is malformed");
  if (code == Error::bad_transfer_encoding) {
    return Bad(400, "the length of the request's body is told in two ways");
  }
  if (code == Error::bad_line_ending) return Bad(400, "a line does not end in CR LF");
  if (parser.saw_request_line()) return Bad(400, "a header field is malformed");
  return Bad(400, "the request line is malformed");
}

// What a complete head must have besides being well-formed.
ParseResult Check(const Parser& parser, size_t consumed, Request& request) {
  if (parser.saw_transfer_encoding() && !parser.chunked()) {
    return Bad(501, "the request's Transfer-Encoding is not supported");
  }
  if (parser.saw_transfer_encoding() && request.minor_version == 0) {
    return Bad(400, "HTTP/1.0 has no Transfer-Encoding");
  }
  if (!parser.saw_host() && request.minor_version >= 1) {
    return Bad(400, "there is no Host field");
  }
  request.keep_alive = parser.keep_alive();
  // Expectations came with HTTP/1.1; a proxy of HTTP/1.0 may have passed one on unread.
  request.expects_continue &= request.minor_version >= 1;
  request.unknown_expectation &= request.minor_version >= 1;
  if (parser.chunked()) {
    request.body = BodyKind::kChunked;
  } else if (parser.content_length().value_or(0) > 0) {
    request.body = BodyKind::kLength;
    request.content_length = *parser.content_length();
  }
  return {State::kComplete, consumed, 0, {}};
}

}  // namespace

ParseResult ParseRequest(absl::string_view input, size_t limit, Request& request) {
  request = Request();
  size_t skipped = 0;
  while (absl::StartsWith(input.substr(skipped), "\r\n")) skipped += 2;
  if (skipped > limit) return Bad(400, "there are only empty lines");
  input.remove_prefix(skipped);
  if (input.empty() || input == "\r") return {};

  absl::string_view head = input.substr(0, limit);
  Parser parser(head, request);
  parser.header_limit(static_cast<uint32_t>(std::min<size_t>(limit, UINT32_MAX)));
  // Bodies are read, or refused, by whoever asked for the head.
  parser.body_limit(boost::none);
  beast::error_code error;
  // The request line and the fields are separate steps, of which one call may take only the first.
  size_t consumed = 0;
  while (!error && !parser.is_header_done()) {
    consumed += parser.put(
        boost::asio::const_buffer(head.data() + consumed, head.size() - consumed), error);
  }
  if (error == beast::http::error::need_more) {
    return head.size() < limit ? ParseResult() : TooLarge(parser);
  }
  if (error) return Explain(error, parser, input);
  return Check(parser, skipped + consumed, request);
}

}  // namespace weft::http
