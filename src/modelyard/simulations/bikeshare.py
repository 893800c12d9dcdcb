"""How many bikes are rented in each hour of a city that does not exist?

This is a simulation, not data: every number is drawn from a seeded generator. It stands for the
bike share of a town at altitude near the equator, which has afternoons of rain and no seasons, so
that an alarm in it has a cause: whatever moves was moved here, at a date that has a name below.

| column | meaning |
|---|---|
| row_id | running number of the hour: the key that labels are joined by |
| timestamp | start of the hour, UTC |
| hour, weekday | of the timestamp; Monday is 0 |
| workingday | 0 on Saturdays, Sundays and public holidays |
| temperature | deg C, as the station reports it |
| humidity | relative, percent, as the station reports it |
| wind | km/h |
| weather | clear, cloudy or rain |
| stations_online | docking stations that answer in this hour |
| cnt | bikes rented in the hour: the target, settled a day later |

Three things happen in the two years:

- `DEMAND_SHIFT`: a subway line opens. Its stations bring new docks (`stations_online` rises by a
  tenth) and new riders: 40 % more rentals at any hour and as many again in the evening, 60 % over
  the day, for the same clock and weather. A model from before cannot know.
- `FAULT_START` to `FAULT_END`: the humidity sensor was replaced and reports a fraction (0.71)
  instead of a percentage (71). The town is the same: there is nothing to learn, only to mend.
- `TRAFFIC_START`: nothing in the rows; the day on which the demo puts its first model into traffic.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

START = datetime(2023, 1, 2, tzinfo=UTC)
END = datetime(2024, 12, 30, tzinfo=UTC)
TRAFFIC_START = datetime(2024, 1, 1, tzinfo=UTC)
DEMAND_SHIFT = datetime(2024, 2, 13, tzinfo=UTC)
FAULT_START = datetime(2024, 4, 9, tzinfo=UTC)
FAULT_END = datetime(2024, 4, 21, tzinfo=UTC)

SEED = 20230102

# Share of a day's rentals by hour of the day, before they are normalised.
_WORKING = (
    4,
    2,
    1,
    1,
    3,
    12,
    34,
    78,
    92,
    52,
    36,
    38,
    46,
    44,
    40,
    44,
    62,
    96,
    100,
    70,
    46,
    30,
    18,
    9,
)
_FREE = (9, 6, 4, 2, 2, 4, 9, 18, 32, 50, 66, 76, 80, 78, 74, 70, 64, 58, 50, 40, 30, 24, 18, 12)
# Riders whom the subway brings: from each station all day, and home from it in the evening.
_SUBWAY_GROWTH = 1.4
_SUBWAY_EVENING = (12, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4, 4, 6, 8, 12, 20, 28, 30, 28, 22, 16)

# Public holidays as (month, day), never two of them within a fortnight: two would be real drift.
_HOLIDAYS = {(5, 1), (7, 20), (8, 7), (10, 12), (12, 25)}


def simulate(seed: int = SEED) -> pd.DataFrame:
    """Return two years of hourly rows, oldest first: 17,472 rows, no missing value.

    The same seed gives the same rows on every machine: uniform draws of PCG64 are the only source
    of randomness, and all measurements are rounded.
    """
    hours = int((END - START) / timedelta(hours=1))
    rng = np.random.Generator(np.random.PCG64(seed))
    time = pd.date_range(START, periods=hours, freq="h")
    hour = time.hour.to_numpy()
    weekday = time.weekday.to_numpy()
    holiday = np.array([(m, d) in _HOLIDAYS for m, d in zip(time.month, time.day, strict=True)])
    working = (weekday < 5) & ~holiday
    after = np.asarray(time >= pd.Timestamp(DEMAND_SHIFT))

    weather, temperature, humidity, wind = _weather(rng, hour)
    stations = np.where(after, 236, 214)
    # Each station is offline in one hour of forty: near enough normal at two hundred stations.
    offline = stations / 40 + np.sqrt(stations / 40) * _normal(rng, hours)
    stations_online = np.rint(stations - np.clip(offline, 0, None)).astype(np.int64)

    demand = 3.6 * np.where(working, np.take(_WORKING, hour), np.take(_FREE, hour))
    with_subway = _SUBWAY_GROWTH * demand + 3.6 * np.take(_SUBWAY_EVENING, hour)
    demand = np.where(after, with_subway, demand)
    demand *= 1 - 0.012 * (temperature - 19.0) ** 2 / 4
    demand *= np.select([weather == "rain", weather == "cloudy"], [0.55, 0.93], 1.0)
    demand *= 1 - 0.006 * np.clip(wind - 12, 0, None)
    demand *= 1 - 0.003 * np.clip(humidity - 60, 0, None)
    noise = 0.06 * _normal(rng, hours) + _normal(rng, hours) / np.sqrt(np.clip(demand, 1, None))
    cnt = np.rint(np.clip(demand * (1 + noise), 0, None)).astype(np.int64)

    faulty = np.asarray((time >= pd.Timestamp(FAULT_START)) & (time < pd.Timestamp(FAULT_END)))
    reported = np.where(faulty, np.round(humidity / 100, 2), humidity)
    return pd.DataFrame(
        {
            "row_id": np.arange(1, hours + 1),
            "timestamp": time,
            "hour": hour.astype(np.int64),
            "weekday": weekday.astype(np.int64),
            "workingday": working.astype(np.int64),
            "temperature": temperature,
            "humidity": reported,
            "wind": wind,
            "weather": weather,
            "stations_online": stations_online,
            "cnt": cnt,
        }
    )


def _weather(
    rng: np.random.Generator, hour: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw weather, temperature (deg C), humidity (%) and wind (km/h) for each hour.

    It has a daily course and no memory from hour to hour, so that windows are as alike as tests
    for independent rows suppose.
    """
    course = np.sin((hour - 9) / 24 * 2 * np.pi)
    wet = np.where((hour >= 13) & (hour <= 19), 0.30, 0.10)
    sky = rng.random(hour.size)
    weather = np.select([sky < wet, sky < wet + 0.35], ["rain", "cloudy"], "clear").astype(object)
    rain = weather == "rain"
    temperature = 18.0 + 5.0 * course - 2.0 * rain + 1.5 * _normal(rng, hour.size)
    humidity = 66.0 - 12.0 * course + 14.0 * rain + 5.0 * _normal(rng, hour.size)
    wind = 10.0 + 4.0 * course + 4.0 * _normal(rng, hour.size)
    return (
        weather,
        np.round(temperature, 1),
        np.round(np.clip(humidity, 20, 100)),
        np.round(np.clip(wind, 0, None), 1),
    )


def _normal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw nearly normal numbers, mean 0 and sd 1: twelve uniforms, added (Irwin-Hall).

    NumPy may change how it draws normals between versions (NEP 19); uniforms are 53 plain bits.
    """
    return rng.random((size, 12)).sum(axis=1) - 6.0
