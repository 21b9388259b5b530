"""Tests of the policy; nothing to install: python3 test_policy.py"""

import importlib.util
import pathlib
import unittest

FUNCTION = pathlib.Path(__file__).parent / "code" / "function.py"


def load(parameters):
    """A fresh instance, made the way an executor makes it."""
    spec = importlib.util.spec_from_file_location("function", FUNCTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.AIOSv1PolicyRule("{{name}}:1.0-beta", {"unit": "ms"}, parameters)


class PolicyTest(unittest.TestCase):
    def decide(self, value, limit):
        parameters = {"limit": limit}
        return load(parameters).eval(parameters, {"value": value}, {})

    def test_allows_what_is_within_the_limit(self):
        self.assertTrue(self.decide(100, limit=100)["allowed"])

    def test_refuses_what_is_above_and_says_why(self):
        decision = self.decide(101, limit=100)
        self.assertFalse(decision["allowed"])
        self.assertIn("101ms is above the limit of 100ms", decision["reason"])

    def test_the_limit_can_be_changed(self):
        policy = load({"limit": 1})
        policy.management("set_limit", {"limit": 5})
        self.assertEqual(policy.management("get_limit", {}), {"limit": 5})

    def test_other_commands_are_refused(self):
        with self.assertRaises(ValueError):
            load({"limit": 1}).management("drop_limit", {})


if __name__ == "__main__":
    unittest.main()
