"""What the command line says of itself and of wrong words. Usage: test_usage.py HEARTH"""
import subprocess
import sys
import unittest

HEARTH = sys.argv[1]


def run(*arguments):
    done = subprocess.run([HEARTH, *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


class Usage(unittest.TestCase):
    def test_alone_it_lists_the_commands(self):
        for arguments, words in [((), ("serve", "chat", "bench", "Example:")), (("bench",), ("kernels", "step"))]:
            code, out, err = run(*arguments)
            self.assertEqual((code, out), (2, ""))
            self.assertIn(f"usage: {' '.join(('hearth', *arguments))} [options] COMMAND\n", err)
            for word in words:
                self.assertIn(word, err)
            self.assertEqual("hearth serve ./Mixtral" in err, not arguments)

    def test_version(self):
        for argument in ("--version", "version"):
            code, out, err = run(argument)
            self.assertEqual((code, err), (0, ""))
            self.assertRegex(out, r"^(hearth )?\d+\.\d+\.\d+ \([0-9a-f]{7}(-dirty)?\)\n$")

    def test_help(self):
        code, out, err = run("serve", "--help")
        self.assertEqual((code, err), (0, ""))
        for line in ("Server:", "Model:", "Engine:", "Queue and latency:", "Examples:", "  --port N "):
            self.assertIn(line, out)
        self.assertIn("0 takes a free one (0 to 65535; default 8000)", out)
        self.assertIn("--dtype auto|float32|float16|bfloat16", out)
        for unreadable in ("INT:INT", "1073741824", "1125899906842624", "TEXT:{", " in ["):
            self.assertNotIn(unreadable, out)
        for command in (("--help",), ("chat", "--help"), ("bench", "serve", "--help"), ("bench", "kernels", "--help")):
            code, out, err = run(*command)
            self.assertEqual(code, 0)
            self.assertIn(f"usage: {' '.join(('hearth', *command[:-1]))} [options]", out)

    def test_wrong_words(self):
        for arguments, said in [
            (("serve", "x", "--prot", "3"), "hearth serve: there is no option --prot; did you mean --port?"),
            (("serve", "--prot", "3", "x"), "hearth serve: there is no option --prot; did you mean --port?"),
            (("serve", "x", "--max-model-length=3"), "there is no option --max-model-length; did you mean --max-model-len?"),
            (("serve", "x", "--kv-cache-mem", "3"), "did you mean --kv-cache-memory-bytes?"),
            (("serve", "x", "--zzzzzz"), "hearth serve: there is no option --zzzzzz\n"),
            (("sreve", "x"), "hearth: there is no command sreve; did you mean serve?"),
            (("bench", "sevre"), "hearth bench: there is no command sevre; did you mean serve?"),
            (("serve",), "hearth serve: MODEL is required"),
            (("serve", "x", "--port", "99999"), "--port: expected 0 to 65535, found 99999"),
            (("serve", "x", "--max-model-len", "0"), "--max-model-len: expected at least 1, found 0"),
            (("serve", "x", "--port", "eight"), "--port: expected 0 to 65535, found eight"),
            (("serve", "x", "--dtype", "int8"), "--dtype: int8 not in"),
            (("chat", "--temperature", "-1"), "--temperature: expected 0 to 100, found -1"),
        ]:
            code, out, err = run(*arguments)
            self.assertEqual((code, out), (2, ""), arguments)
            self.assertIn(said, err, arguments)
            self.assertIn("--help` lists what there is", err)

    def test_wrong_paths(self):
        for model in ("/nowhere", "./nowhere", "nowhere.gguf", "org/name"):
            code, out, err = run("serve", model, "--port", "0")
            self.assertEqual((code, out), (1, ""))
            self.assertEqual(len(err.splitlines()), 1, err)  # nothing is opened before
            self.assertIn(f"{model}: ", err)


unittest.main(argv=sys.argv[:1])
