"""The build's stack mode, as a flag that config_setting can read."""

_MODES = ["copying", "segmented", "fixed"]

def _stack_mode_impl(ctx):
    compiler = ctx.attr._compiler[config_common.FeatureFlagInfo].value
    clang = compiler == "clang"
    mode = ctx.var.get("weft_stack", "copying" if clang else "fixed")
    if mode not in _MODES:
        fail("--define=weft_stack=%s: expected one of %s" % (mode, ", ".join(_MODES)))
    if mode == "copying" and not clang:
        fail("stack mode 'copying' needs clang (-fsanitize=safe-stack), but the compiler is '%s': " % compiler +
             "leave out --config=copying, or build with clang (--repo_env=CC=clang-19)")
    if mode != "fixed" and "weft_sanitizer" in ctx.var:
        fail("stack mode '%s' does not go with a sanitizer: " % mode +
             "leave out --config=%s; sanitizers are built with 'fixed'" % mode)
    return [config_common.FeatureFlagInfo(value = mode)]

stack_mode = rule(
    implementation = _stack_mode_impl,
    doc = "What --define=weft_stack=MODE says, else the compiler's default.",
    attrs = {
        "_compiler": attr.label(default = "@bazel_tools//tools/cpp:compiler"),
    },
)

def _escape_pass_impl(ctx):
    wanted = ctx.var.get("weft_escape_pass", "auto")
    if wanted not in ("auto", "on", "off"):
        fail("--define=weft_escape_pass=%s: expected auto, on or off" % wanted)
    mode = ctx.attr.mode[config_common.FeatureFlagInfo].value
    if mode != "copying" or wanted == "off":
        return [config_common.FeatureFlagInfo(value = "off")]
    if not ctx.attr.absence:
        return [config_common.FeatureFlagInfo(value = "on")]
    message = "no escape pass, so goroutines' stacks neither rest nor move: " + ctx.attr.absence
    if wanted == "on":
        fail(message)

    # buildifier: disable=print
    print(message)
    return [config_common.FeatureFlagInfo(value = "off")]

escape_pass = rule(
    implementation = _escape_pass_impl,
    doc = """\
Whether code is compiled with //stack/escape_pass, and so may be on a stack that moves. In mode
`copying`, where LLVM's headers are installed; --define=weft_escape_pass=off does without, and `on`
makes it an error that it cannot be had.""",
    attrs = {
        "absence": attr.string(doc = "why it cannot be built, empty if it can", mandatory = True),
        "mode": attr.label(mandatory = True),
    },
)
