"""The sabotages of scripts/faults_bite.py apply to the code as it is. (Whether tests notice them takes minutes.)"""

import builtins
import dis
import sys

import pytest

from runs import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import faults_bite


@pytest.mark.parametrize("name", faults_bite.SABOTAGES)
def test_a_sabotage_replaces_one_place_by_code_that_can_run(name):
    file, there, instead = faults_bite.SABOTAGES[name]
    source = (ROOT / file).read_text()
    assert source.count(there) == 1
    assert not undefined(source.replace(there, instead), file)


def undefined(source, file):
    """Global names that the functions of a module load and that nothing defines."""
    module = compile(source, file, "exec")
    defined = {one.argval for one in dis.get_instructions(module) if one.opname == "STORE_NAME"}
    loaded, codes = set(), [module]
    while codes:
        code = codes.pop()
        loaded |= {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
        codes += [constant for constant in code.co_consts if hasattr(constant, "co_code")]
    return loaded - defined - set(dir(builtins)) - {"__file__", "__name__"}
