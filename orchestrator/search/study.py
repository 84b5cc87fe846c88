"""Propose points with Optuna's ask-and-tell interface; refused and repeated points are answered at once."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field

import optuna
from optuna.trial import TrialState

from aream.errors import AreamError
from orchestrator.search.record import FAILED, PointOutcome, SearchRecord, frozen_trial
from orchestrator.search.space import identity
from orchestrator.spec.axes import Values
from orchestrator.spec.spec import SweepSpec

log = logging.getLogger(__name__)

MAX_TRIES = 1000
"""Points in a row that may be refused or known before the search gives up."""
HELP_AFTER = 20
"""Such points in a row before one is looked for by other means than the algorithm alone."""
REFUSED_KEPT = 50
STARTUP = 10
"""Results before an algorithm goes beyond random points; Optuna's own number."""
CONSTRAINT = "where"
MET = -1.0


@dataclass
class Point:
    """One proposed point; several of the algorithm's trials if it proposed it again."""

    values: Values
    number: int
    """Number of the point in the record."""
    outcome: PointOutcome | None = None
    waiting: list[int] = field(default_factory=list)
    """The algorithm's trials that its result answers."""


class SearchStudy:
    """Proposes points that ``where`` allows and that are not known yet, and learns from all of them.

    The algorithm works on a study in memory, where refused and repeated points cost nothing; the record keeps each
    real point once.
    """

    def __init__(self, spec: SweepSpec, record: SearchRecord) -> None:
        assert spec.search is not None  # a grid has no study
        self.record, self.space = record, record.space
        self.algorithm = spec.search.algorithm
        self.points: dict[str, Point] = {}
        known = record.points()
        # Seeded by what is known too: the same numbers would draw the same points a second time.
        seed = (spec.search.seed + len(known)) % 2**32
        self.random = random.Random(seed)
        self.sampler = _sampler(self.algorithm, seed, spec.search.trials)
        self.guide = optuna.samplers.TPESampler(seed=seed, multivariate=True)
        self.anywhere = optuna.samplers.RandomSampler(seed=seed)
        self.study = optuna.create_study(directions=record.directions, sampler=self.sampler)
        self.refused = self.complete = 0
        self.all_points: dict[str, Values] | None = None
        """Known once the algorithm has proposed nothing new for a while, where they can be counted."""
        for entry in known:
            parameters = self.space.parameters(entry.values)
            if parameters is None:
                continue
            outcome = None if entry.outcome == FAILED else entry.outcome
            again = entry.outcome == FAILED
            number = record.begin(entry.values, parameters, entry.system) if again else entry.number
            point = Point(entry.values, number, outcome)
            self.points[identity(entry.values)] = point
            self._learn(point, entry.system)

    def ask(self) -> Point | None:
        """A new point, kept in the record before it is returned; None: there is no other.

        Raises:
            AreamError: ``where`` refuses everything that is tried.
        """
        refused = 0
        for tried in range(MAX_TRIES):
            trial = self._draw(tried, repeated=refused == 0)
            if trial is None and not self.points:
                raise AreamError("where: no point of the axes meets the constraints")
            if trial is None:
                return None
            values = self.space.draw(trial)
            known = self.points.get(identity(values))
            violation = 0.0 if known else self.space.violation(values)
            if violation:
                refused += 1
                self._refuse(trial, violation)
                continue
            # The samplers read constraints of all trials or of none.
            trial.set_constraint(CONSTRAINT, MET)
            if known:
                known.waiting.append(trial.number)
                if known.outcome:
                    self._answer(known)
            else:
                return self._accept(trial, values)
        if refused < MAX_TRIES / 2:
            log.warning("the search proposes only points it knows; it ends")
            return None
        raise AreamError(
            f"where: {refused} of {MAX_TRIES} points in a row were refused, none was new; "
            "allow more of the axes' ranges or drop a constraint"
        )

    def tell(self, point: Point, outcome: PointOutcome) -> None:
        """A point has ended. What is known of one that had a result already stays as it is."""
        if point.outcome is not None and (point.outcome.values or not outcome.values):
            return
        if point.outcome is None:
            self.record.end(point.number, outcome)
            point.outcome = outcome
            self.complete += outcome.values is not None
            self._answer(point)
        else:  # stopped early once, run to its end now
            parameters = self.space.parameters(point.values)
            assert parameters is not None  # every point of the study fits
            point.number = self.record.begin(point.values, parameters, {}, outcome)
            point.outcome = outcome
            self._learn(point, {})

    def _draw(self, tried: int, *, repeated: bool) -> optuna.Trial | None:
        """The next trial to look at: the algorithm's own; after many in vain one that must be new, or None."""
        self.study.sampler = self.sampler
        if tried == HELP_AFTER:
            self.all_points = self.space.points
        if self.all_points is not None:
            left = self.all_points.keys() - self.points.keys()
            if not left:
                return None
            if tried >= HELP_AFTER:
                parameters = self.space.parameters(self.all_points[self.random.choice(sorted(left))])
                assert parameters is not None  # it is one of the space's points
                self.study.enqueue_trial({key: raw for key, (raw, _) in parameters.items()})
        elif tried >= HELP_AFTER:
            self.study.sampler = self.anywhere if repeated else self.guide
        return self.study.ask()

    def _accept(self, trial: optuna.Trial, values: Values) -> Point:
        parameters = self.space.parameters(values)
        assert parameters is not None  # it was drawn from them
        noted = self.study.get_trials(deepcopy=False)[trial.number].system_attrs
        number = self.record.begin(values, parameters, dict(noted))
        point = Point(values, number, waiting=[trial.number])
        self.points[identity(values)] = point
        return point

    def _refuse(self, trial: optuna.Trial, violation: float) -> None:
        """Tell the algorithm how far it was off; only so often that what is allowed stays the larger part it knows."""
        trial.set_constraint(CONSTRAINT, violation)
        if self.algorithm == "gp" and self.complete >= STARTUP:
            # This sampler reads constraints of complete trials only: one that is like the others otherwise.
            results = [point.outcome.values for point in self.points.values() if point.outcome and point.outcome.values]
            self.study.tell(trial, [sum(column) / len(results) for column in zip(*results, strict=True)])
            return
        kept = not self.complete or self.refused < REFUSED_KEPT + 2 * self.complete
        self.refused += kept
        self.study.tell(trial, state=TrialState.PRUNED if kept else TrialState.FAIL)

    def _answer(self, point: Point) -> None:
        assert point.outcome is not None  # called where it has one
        values = None if point.outcome.values is None else list(point.outcome.values)
        while point.waiting:
            self.study.tell(point.waiting.pop(), values, point.outcome.state)

    def _learn(self, point: Point, system: dict[str, object]) -> None:
        """A point that the algorithm has not proposed itself in this run."""
        parameters = self.space.parameters(point.values)
        assert parameters is not None  # every point of the study fits
        trial = frozen_trial(point.values, parameters, system, point.outcome)
        if CONSTRAINT not in trial.constraints:
            trial.set_constraint(CONSTRAINT, MET)
        self.study.add_trial(trial)
        if point.outcome is None:
            point.waiting.append(len(self.study.get_trials(deepcopy=False)) - 1)
        elif point.outcome.values:
            self.complete += 1


def _sampler(algorithm: str, seed: int, trials: int) -> optuna.samplers.BaseSampler:
    if algorithm == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if algorithm == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, trials // 4)))
    if algorithm == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=STARTUP)
