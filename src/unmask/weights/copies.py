"""Which network of a checkpoint is read, where it holds several: online and averaged ones, a student and its teacher.

A checkpoint of training keeps them side by side, as dicts (`state_dict`, `state_dict_ema`) or as prefixes of keys
(`base_encoder.`, `momentum_encoder.`). The online network is taken, or the teacher where there is one, as in the
evaluations of DINO, iBOT, DINOv2 and I-JEPA. What is left out is said, with the option that takes it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from unmask.errors import UserError
from unmask.weights.reading import Reading

ONLINE = ("model", "state_dict", "objective", "model_state", "net", "network", "model_state_dict")
AVERAGED = ("state_dict_ema", "model_ema", "ema_model", "ema_state_dict", "model_state_dict_ema", "ema", "params_ema")
TEACHERS = {"teacher": "student", "target_encoder": "encoder"}  # each with its student
ANCHOR = re.compile(
    r"(.*?)(?:embeddings\.patch_embeddings\.projection|patch_embed\.proj(?:ection)?|(?<!\w)conv_proj)\.weight"
)
FOLLOWERS = re.compile(r"(?:^|[._])(?:momentum|teacher|ema|averaged|target|key|encoder_k)(?=[._])")
SWAPPED = {"ema_state_dict": "mmengine", "current_model_state": "Lightning"}  # what lies beside averages, and by whom
NAMES = (*ONLINE, *AVERAGED, *TEACHERS, *TEACHERS.values(), "predictor", "current_model_state")
WRAPPERS = ("module.", "_orig_mod.", "model.")  # of keys
OURS = "encoder.net."  # keys of our own runs, which keep one network


AVERAGE, TEACHER, STUDENT, ONLINE_KIND = "average", "teacher", "student", "online"


@dataclass(frozen=True)
class Choice:
    """One network of several."""

    name: str  # of a dict, or a prefix of keys
    kind: str  # AVERAGE, TEACHER, STUDENT or ONLINE_KIND
    remark: str  # for people; "" where there is nothing to say
    keys: Sequence[str] = ()  # of the network, where it is a prefix; none: all


@dataclass(frozen=True)
class Checkpoint:
    state: dict[str, Tensor]
    header: dict[str, Any]  # plain values beside the state, or the header of a safetensors file
    networks: tuple[str, ...] = ()  # names of the networks that the checkpoint holds
    remarks: tuple[str, ...] = ()  # which one was taken, for people


def unwrapped(content: Any, reading: Reading, source: str) -> Checkpoint:
    """The tensors by name of what a checkpoint holds; none where it holds none. source: for errors.

    Raises UserError where the copy that the caller asks for is not there.
    """
    header: dict[str, Any] = {}
    networks: list[str] = []
    choices: list[Choice] = []
    while isinstance(content, dict):
        names = [name for name in NAMES if isinstance(content.get(name), dict)]
        choice = _chosen(names, content, reading)
        if choice is None:
            break
        header |= {key: value for key, value in content.items() if isinstance(value, str | int | float)}
        networks += names
        choices.append(choice)
        content = content[choice.name]
    content = content if isinstance(content, dict) else {}
    state = without_wrappers({key: value for key, value in content.items() if isinstance(value, Tensor)})
    choices.append(_one_of_twins(list(state), reading))
    state = without_wrappers({key: state[key] for key in choices[-1].keys or state})
    kinds = {choice.kind for choice in choices}
    for wanted, kind, what in (
        (reading.ema, {AVERAGE, TEACHER}, "--ema: there is no moving average of its weights"),
        (reading.student, {STUDENT}, "--student: there is no student beside a teacher"),
    ):
        if wanted and state and not kind & kinds:
            raise UserError(f"{source}: {what} in it; leave the option out")
    return Checkpoint(state, header, tuple(networks), tuple(choice.remark for choice in choices if choice.remark))


def without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keys without what DDP, torch.compile and averaging put before all of them."""
    state = {key: value for key, value in state.items() if key != "n_averaged"}
    while state and (prefix := next((p for p in WRAPPERS if all(key.startswith(p) for key in state)), None)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _chosen(names: Sequence[str], content: Mapping[str, Any], reading: Reading) -> Choice | None:
    """The dict to go on with; None where this level holds the tensors."""
    for teacher, student in TEACHERS.items():
        if teacher in names:
            return _of_teacher_and_student(teacher, student if student in names else None, reading)
    averaged = [name for name in AVERAGED if name in names]
    online = [name for name in ONLINE if name in names]
    for other, maker in SWAPPED.items():
        if {"state_dict", other} <= set(names) and (other not in AVERAGED or {"meta", "message_hub"} & content.keys()):
            said = f"the moving average (EMA) of the weights is taken: {maker} keeps it as `state_dict`; left out:"
            return Choice("state_dict", AVERAGE, f"{said} `{other}`, the online weights")
    if averaged and (reading.ema or not online):
        why = f"as asked; left out: `{online[0]}`, the online weights" if online else "the file holds no others"
        return Choice(averaged[0], AVERAGE, f"the moving average (EMA) of the weights is taken, `{averaged[0]}`: {why}")
    left = ", ".join(f"`{name}`" for name in averaged)
    remark = f"left out: {left}, a moving average (EMA) of these weights; --ema takes it" if left else ""
    return Choice(online[0], ONLINE_KIND, remark) if online else _student_alone(names)


def _student_alone(names: Sequence[str]) -> Choice | None:
    name = next((student for student in TEACHERS.values() if student in names), None)
    return None if name is None else Choice(name, STUDENT, "")


def _of_teacher_and_student(teacher: str, student: str | None, reading: Reading) -> Choice:
    if student is not None and reading.student:
        return Choice(
            student, STUDENT, f"the student is taken, `{student}`, as asked; left out: the teacher, `{teacher}`"
        )
    other = f"; left out: `{student}` (--student takes it)" if student else ""
    return Choice(teacher, TEACHER, f"the teacher is taken, `{teacher}`, as its makers do{other}")


def _one_of_twins(keys: Sequence[str], reading: Reading) -> Choice:
    """One network of two that a state dict holds under different prefixes."""
    prefixes = [match[1] for key in keys if (match := ANCHOR.fullmatch(key))]
    followers = [_root(prefix) for prefix in prefixes if _root(prefix)]
    leaders = sorted((prefix for prefix in prefixes if not _root(prefix)), key=len)
    if not followers or any(key.startswith(OURS) for key in keys):
        return Choice("", ONLINE_KIND, "")
    follower, leader = min(followers, key=len), leaders[0] if leaders else None
    if "teacher" in follower:
        student = next((prefix for prefix in leaders if "student" in prefix), None)
        choice = _of_teacher_and_student(follower, student, reading)
    elif reading.ema or leader is None:
        why = (
            f"as asked; left out: `{leader or 'keys without it'}`" if leader is not None else "the file holds no others"
        )
        choice = Choice(follower, AVERAGE, f"the moving average (EMA) of the weights is taken, `{follower}`: {why}")
    else:
        remark = f"left out: `{follower}`, a moving average (EMA) of these weights; --ema takes it"
        choice = Choice(leader, ONLINE_KIND, remark)
    if choice.name == follower:
        return replace(choice, keys=[key for key in keys if key.startswith(follower)])
    return replace(choice, keys=[key for key in keys if not key.startswith(tuple(followers))])


def _root(prefix: str) -> str:
    """The beginning of a prefix that says that its network follows another one, whole parts of it; "" if none does."""
    match = FOLLOWERS.search(prefix)
    return prefix[: prefix.index(".", match.end() - 1) + 1] if match else ""
