"""What the service tells OpenTelemetry, by its public API, in the place of an SDK."""

from collections.abc import Mapping, Sequence
from functools import cache

from opentelemetry.context import Context
from opentelemetry.metrics import (
    Counter,
    Histogram,
    Meter,
    MeterProvider,
    NoOpMeter,
    UpDownCounter,
    _Gauge,
    set_meter_provider,
)
from opentelemetry.util.types import Attributes


class Instrument(Counter, UpDownCounter, Histogram, _Gauge):
    """An instrument of any kind, which remembers what it was told since the test began."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.boundaries: Sequence[float] = ()
        self.amounts: list[float] = []
        self.attributes: list[Mapping[str, object]] = []

    def add(
        self,
        amount: float,
        attributes: Attributes = None,
        context: Context | None = None,  # noqa: ARG002 - OpenTelemetry's
    ) -> None:
        """Take a value."""
        self.amounts.append(amount)
        self.attributes.append(dict(attributes or {}))

    record = set = add

    def values(self, attribute: str) -> list[object]:
        """Return the values of an attribute, in the order in which they came."""
        return [attributes[attribute] for attributes in self.attributes]


class Recorder(NoOpMeter):
    """The service's meter: ``recorder["sso.token.refusals"].amounts``."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.instruments: dict[str, Instrument] = {}

    def __getitem__(self, name: str) -> Instrument:
        """Return an instrument."""
        return self.instruments[name]

    def reset(self) -> None:
        """Forget what was told before."""
        for instrument in self.instruments.values():
            instrument.amounts.clear()
            instrument.attributes.clear()

    def create_counter(self, name: str, *_about: object, **_it: object) -> Instrument:
        """Return an instrument that remembers."""
        return self.instruments.setdefault(name, Instrument(name))

    create_up_down_counter = create_gauge = create_counter

    def create_histogram(
        self,
        name: str,
        *_about: object,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
        **_it: object,
    ) -> Instrument:
        """Return an instrument that remembers, with the boundaries of its buckets."""
        instrument = self.create_counter(name)
        instrument.boundaries = explicit_bucket_boundaries_advisory or ()
        return instrument


class _Provider(MeterProvider):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def get_meter(self, name: str, *_about: object, **_it: object) -> Meter:
        return self._recorder if name == "app.utils.sso" else NoOpMeter(name)


@cache
def install() -> Recorder:
    """Return the recorder of this process; OpenTelemetry takes one provider of meters, once."""
    recorder = Recorder()
    set_meter_provider(_Provider(recorder))
    return recorder
