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
