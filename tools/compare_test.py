#!/usr/bin/env python3
"""Tests tools/compare with a Bazel, a Go and benchmarks that are scripts, and with a real Go if there
is one."""

import importlib.machinery
import importlib.util
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

TOOLS = os.path.dirname(os.path.abspath(__file__))
COMPARE = os.path.join(TOOLS, "compare")

sys.dont_write_bytecode = True
_loader = importlib.machinery.SourceFileLoader("compare", COMPARE)
compare = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", _loader))
_loader.exec_module(compare)

# Records its use in $RECORD. PingPong's time is that of the rounds in $OURS, in turn.
BENCHMARK = """#!/usr/bin/env python3
import json, os, sys
record = os.environ["RECORD"]
if sys.argv[1] == "--benchmark_list_tests=true":
    print("BM_PingPong/1/real_time", "BM_PingPong/0/process_time/real_time", "BM_Pipe/1/real_time",
          "BM_Crowd/1/iterations:3/real_time", "BM_Crowd/10/real_time", sep="\\n")
    sys.exit()
with open(record, "a") as f: f.write("ours\\n")
name = sys.argv[1].split("=", 1)[1].replace("\\\\", "").strip("^$")
turn = open(record).read().split().count("ours") - 1
times = os.environ["OURS"].split()
result = {"name": name, "real_time": float(times[turn % len(times)]), "time_unit": "us"}
if "Pipe" in name: result.update(error_occurred=True, error_message="out of pipes")
print(json.dumps({"benchmarks": [result]}))
"""

BAZEL = """#!/bin/sh
for last; do :; done
if [ "$1" = info ]; then echo "$BIN"; exit; fi
case "$last" in //chan:*) exit 0 ;; *) echo "ERROR: no $last" >&2; exit 1 ;; esac
"""

GO = """#!/bin/sh
case "$1" in
  version) echo "go version go1.30.2 linux/amd64" ;;
  build) grep -q '^go 1.30$' go.mod || exit 1
    echo built >> "$RECORD"
    cat > compare_go <<'END'
#!/bin/sh
echo go >> "$RECORD"
echo "$GOMAXPROCS" >> "$RECORD.procs"
echo 2000.0
END
    chmod +x compare_go ;;
esac
"""


class CompareTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.record = self.path("record")
        self.go = self.script("go/bin/go", GO)
        self.script("bin/chan/chan_benchmark", BENCHMARK)
        self.env = {"PATH": "/usr/bin:/bin", "BAZEL": self.script("bazel", BAZEL),
                    "BIN": self.path("bin"), "RECORD": self.record, "OURS": "1 3 2",
                    "WEFT_CACHE": self.path("cache")}

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def script(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        return path

    def run_compare(self, *arguments):
        return subprocess.run([sys.executable, COMPARE, *arguments], env=self.env, text=True,
                              capture_output=True, timeout=120, check=False)

    def events(self):
        with open(self.record, encoding="utf-8") as file:
            return file.read().split()

    def test_rounds_alternate_and_medians_are_compared(self):
        done = self.run_compare("--go", self.go, "--rounds", "3", "--only", "PingPong1", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.events(), ["built"] + ["ours", "go"] * 3)
        report = json.loads(done.stdout)
        self.assertEqual(report["go"], "go1.30.2")
        self.assertEqual(report["failures"], {})
        [result] = report["results"]
        self.assertEqual(result["name"], "PingPong1")
        self.assertEqual(result["ours_rounds_ns"], [1000, 3000, 2000])
        self.assertEqual((result["ours_ns"], result["go_ns"], result["ratio"]), (2000, 2000, 1))
        self.assertEqual((result["lowest_ratio"], result["highest_ratio"]), (0.5, 1.5))

    def test_the_table_has_name_both_times_and_ratio(self):
        done = self.run_compare("--go", self.go, "--rounds", "3", "--only", "PingPong")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"PingPong +2000\.0 ns +2000\.0 ns +1\.00 +0\.50\.\.1\.50\n")

    def test_gos_program_is_built_once_and_gets_the_same_processors(self):
        for _ in range(2):
            self.run_compare("--go", self.path("go"), "--rounds", "1", "--only", "PingPong1")
        self.assertEqual(self.events().count("built"), 1)
        with open(self.record + ".procs", encoding="utf-8") as file:
            self.assertEqual(set(file.read().split()), {str(len(os.sched_getaffinity(0)))})

    def test_go_is_found_in_goroot_and_in_path(self):
        self.env["GOROOT"] = self.path("go")
        self.assertEqual(self.run_compare("--rounds", "1", "--only", "PingPong1").returncode, 0)
        del self.env["GOROOT"]
        self.env["PATH"] = self.path("go/bin") + ":/usr/bin:/bin"
        self.assertEqual(self.run_compare("--rounds", "1", "--only", "PingPong1").returncode, 0)

    def test_without_go_it_says_what_to_do(self):
        self.env["PATH"] = self.path("empty")
        done = self.run_compare("--only", "PingPong1")
        if os.path.exists("/usr/local/go/bin/go") or os.path.exists("/usr/lib/go/bin/go"):
            self.skipTest("there is a Go where any program would look")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no go command", done.stderr)
        self.assertIn("--go PATH", done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1)

    def test_a_go_that_is_none_is_refused_by_name(self):
        for path in (self.path("nothing"), self.directory.name):
            done = self.run_compare("--go", path)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"--go {path}: ", done.stderr)

    def test_our_side_alone(self):
        done = self.run_compare("--no-go", "--rounds", "3", "--only", "PingPong1", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        [result] = json.loads(done.stdout)["results"]
        self.assertEqual(result["ours_ns"], 2000)
        self.assertNotIn("ratio", result)

    def test_what_is_missing_is_said_and_the_rest_goes_on(self):
        done = self.run_compare("--go", self.go, "--rounds", "1", "--json", "--only", "Yield1", "--only",
                                "Select1", "--only", "Pipe1", "--only", "Crowd1")
        self.assertEqual(done.returncode, 1)
        report = json.loads(done.stdout)
        self.assertEqual([r["name"] for r in report["results"]], ["Crowd1"])
        self.assertIn("//sched:sched_benchmark does not build", report["failures"]["Yield1"])
        self.assertIn("has no benchmark BM_Select/1", report["failures"]["Select1"])
        self.assertIn("out of pipes", report["failures"]["Pipe1"])
        for name in ("Yield1", "Select1", "Pipe1"):
            self.assertIn(f"tools/compare: {name}: ", done.stderr)

    def test_unknown_names_are_refused_with_the_known_ones(self):
        done = self.run_compare("--only", "PongPing")
        self.assertEqual(done.returncode, 1)
        self.assertIn("PongPing", done.stderr)
        self.assertIn("SpawnExit1", done.stderr)

    def test_patterns_choose(self):
        done = self.run_compare("--list", "--only", "Echo*", "--only", "Mutex")
        self.assertEqual(done.stdout.split(), ["Echo1conn1", "Echo64conn1", "Echo1000conn1", "Mutex",
                                               "Echo1conn", "Echo64conn", "Echo1000conn"])

    def test_a_benchmarks_arguments_are_not_mistaken_for_a_prefix(self):
        workload = compare.Workload("Echo1conn", "Echo1conn", 0, "//x", "BM_Echo/0/1")
        names = ["BM_Echo/0/1000/real_time", "BM_Echo/0/1/process_time/real_time"]
        self.assertEqual(compare.full_name(workload, names), names[1])
        self.assertIsNone(compare.full_name(workload, names[:1]))

    def test_bad_output_is_a_failure(self):
        for output in ("", "{}", '{"benchmarks": []}', '{"benchmarks": [{"name": "x"}]}'):
            with self.assertRaises(compare.Failure):
                compare.read_benchmark(output, "x")

    def test_a_real_go_knows_every_workload(self):
        try:
            go = compare.find_go(None)
        except compare.Failure:
            self.skipTest("no Go here")
        compare.CACHE = self.path("cache")
        binary, _ = compare.build_go(go)
        known = subprocess.run([binary, "-list"], stdout=subprocess.PIPE, text=True, check=True)
        self.assertEqual(set(known.stdout.split()), {w.go_name for w in compare.all_workloads()})


if __name__ == "__main__":
    unittest.main()
