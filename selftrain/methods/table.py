"""The methods of training by name. `generations.<k>.online` names an online method."""

from selftrain.methods.base import Method
from selftrain.methods.cps import CPS
from selftrain.methods.fixmatch import FixMatch
from selftrain.methods.mean_teacher import MeanTeacher
from selftrain.methods.self_training import SelfTraining
from selftrain.methods.unimatch_v2 import UniMatchV2

METHODS: dict[str, type[Method]] = {
    "": SelfTraining,
    "mean_teacher": MeanTeacher,
    "fixmatch": FixMatch,
    "unimatch_v2": UniMatchV2,
    "cps": CPS,
}
