"""Places: regions with edges, countries and cities with people, and how far apart they are.

A region has a short name (``sin``); which region of AWS or Azure stands for it is in tables here and in
`matrices.REGIONS`. The clouds' own names are taken as well. A client is in a city; the first of a country's
cities is meant where none is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from farcast.simulations.matrices import EARTH_RADIUS_KM, REGIONS, Matrix, aws, azure
from farcast.simulations.scenario import BackboneKind

AZURE_REGIONS: Final[Mapping[str, str]] = {
    "sin": "Southeast Asia",
    "kul": "Malaysia West",
    "hkg": "East Asia",
    "nrt": "Japan East",
    "icn": "Korea Central",
    "syd": "Australia East",
    "bom": "Central India",
    "dxb": "UAE North",
    "fra": "Germany West Central",
    "lon": "UK South",
    "par": "France Central",
    "iad": "East US",
    "sfo": "West US",
    "gru": "Brazil South",
}
"""Our short names for regions of the Azure matrix; Bangkok and Bahrain have none,
and of Jakarta's too many pairs are missing."""

REGION_COUNTRIES: Final[Mapping[str, str]] = {
    "af-south-1": "ZA",
    "ap-east-1": "HK",
    "ap-east-2": "TW",
    "ap-northeast-1": "JP",
    "ap-northeast-2": "KR",
    "ap-northeast-3": "JP",
    "ap-south-1": "IN",
    "ap-south-2": "IN",
    "ap-southeast-1": "SG",
    "ap-southeast-2": "AU",
    "ap-southeast-3": "ID",
    "ap-southeast-4": "AU",
    "ap-southeast-5": "MY",
    "ap-southeast-7": "TH",
    "ca-central-1": "CA",
    "ca-west-1": "CA",
    "eu-central-1": "DE",
    "eu-central-2": "CH",
    "eu-north-1": "SE",
    "eu-south-1": "IT",
    "eu-south-2": "ES",
    "eu-west-1": "IE",
    "eu-west-2": "GB",
    "eu-west-3": "FR",
    "il-central-1": "IL",
    "me-central-1": "AE",
    "me-south-1": "BH",
    "mx-central-1": "MX",
    "sa-east-1": "BR",
    "us-east-1": "US",
    "us-east-2": "US",
    "us-west-1": "US",
    "us-west-2": "US",
}

SAME_PLACE_KM: Final = 100.0
"""A city nearer than this to a region's is that region's."""

CITIES: Final[Mapping[str, Mapping[str, tuple[float, float]]]] = {
    "AE": {"Dubai": (25.20, 55.27)},
    "AU": {"Sydney": (-33.87, 151.21), "Melbourne": (-37.81, 144.96)},
    "BH": {"Manama": (26.23, 50.59)},
    "BR": {"Sao Paulo": (-23.55, -46.63)},
    "CA": {"Montreal": (45.50, -73.57)},
    "CH": {"Zurich": (47.38, 8.54)},
    "CN": {"Shanghai": (31.23, 121.47), "Beijing": (39.90, 116.41), "Shenzhen": (22.54, 114.06)},
    "DE": {"Frankfurt": (50.11, 8.68), "Berlin": (52.52, 13.40)},
    "EG": {"Cairo": (30.04, 31.24)},
    "ES": {"Zaragoza": (41.65, -0.89), "Madrid": (40.42, -3.70)},
    "FR": {"Paris": (48.86, 2.35)},
    "GB": {"London": (51.51, -0.13), "Manchester": (53.48, -2.24)},
    "HK": {"Hong Kong": (22.32, 114.17)},
    "ID": {"Jakarta": (-6.21, 106.85), "Surabaya": (-7.26, 112.75)},
    "IE": {"Dublin": (53.35, -6.26)},
    "IL": {"Tel Aviv": (32.09, 34.78)},
    "IN": {"Mumbai": (19.08, 72.88), "Delhi": (28.61, 77.21), "Chennai": (13.08, 80.27)},
    "IT": {"Milan": (45.46, 9.19)},
    "JP": {"Tokyo": (35.68, 139.69), "Osaka": (34.69, 135.50)},
    "KR": {"Seoul": (37.57, 126.98)},
    "KW": {"Kuwait City": (29.38, 47.98)},
    "MX": {"Queretaro": (20.59, -100.39), "Mexico City": (19.43, -99.13)},
    "MY": {"Kuala Lumpur": (3.14, 101.69)},
    "NL": {"Amsterdam": (52.37, 4.90)},
    "NP": {"Kathmandu": (27.72, 85.32)},
    "PH": {"Manila": (14.60, 120.98)},
    "PK": {"Karachi": (24.86, 67.01)},
    "PL": {"Warsaw": (52.23, 21.01)},
    "QA": {"Doha": (25.29, 51.53)},
    "SA": {"Riyadh": (24.71, 46.68), "Jeddah": (21.49, 39.19)},
    "SE": {"Stockholm": (59.33, 18.07)},
    "SG": {"Singapore": (1.35, 103.82)},
    "TH": {"Bangkok": (13.76, 100.50)},
    "TR": {"Istanbul": (41.01, 28.98)},
    "TW": {"Taipei": (25.03, 121.57)},
    "US": {
        "Ashburn": (39.04, -77.49),
        "New York": (40.71, -74.01),
        "San Francisco": (37.77, -122.42),
        "Los Angeles": (34.05, -118.24),
        "Chicago": (41.88, -87.63),
    },
    "VN": {"Ho Chi Minh City": (10.82, 106.63), "Hanoi": (21.03, 105.85)},
    "ZA": {"Cape Town": (-33.92, 18.42)},
}
"""By country (ISO 3166) and city: latitude and longitude in degrees, compiled for this project."""


@dataclass(frozen=True, slots=True)
class Region:
    """A region by the name that scenarios use, and its row ``at`` in the matrix of its kind."""

    name: str
    country: str
    lat: float
    lon: float
    at: int


@dataclass(frozen=True, slots=True)
class City:
    """Where a client is."""

    name: str
    country: str
    lat: float
    lon: float


class UnknownPlace(LookupError):
    """No such region, country or city; the text says what there is."""


def matrix_of(kind: BackboneKind) -> Matrix:
    """The measured matrix behind a kind of backbone."""
    return azure() if kind == "azure" else aws()


@lru_cache(maxsize=8)
def known_regions(kind: BackboneKind) -> Mapping[str, Region]:
    """Every region that a world of this kind can have edges in: short names, then the cloud's own."""
    matrix = matrix_of(kind)
    short = AZURE_REGIONS if kind == "azure" else REGIONS
    names = {**short, **{name: name for name in matrix.regions}}
    found: dict[str, Region] = {}
    for name, own in names.items():
        if own in matrix.regions:
            at = matrix.index(own)
            lat, lon = float(matrix.latitude[at]), float(matrix.longitude[at])
            found[name] = Region(name, _country_of(own, lat, lon), lat, lon, at)
    return found


def region(name: str, kind: BackboneKind) -> Region:
    """A region by name; `UnknownPlace` if the data have none of that name."""
    regions = known_regions(kind)
    if name not in regions:
        known = ", ".join(AZURE_REGIONS if kind == "azure" else REGIONS)
        hint = _hint(name, regions, f"known are {known} and the cloud's own names")
        raise UnknownPlace(f"unknown region {name!r}{hint}")
    return regions[name]


def city(country: str, name: str = "") -> City:
    """A city, or the first of a country; `UnknownPlace` if there is no such country or city."""
    if country not in CITIES:
        raise UnknownPlace(
            f"unknown country {country!r}{_hint(country, CITIES, 'known are ' + ', '.join(CITIES))}"
        )
    cities = CITIES[country]
    chosen = name or next(iter(cities))
    if chosen not in cities:
        raise UnknownPlace(
            f"unknown city {name!r} in {country}{_hint(name, cities, 'known are ' + ', '.join(cities))}"
        )
    return City(chosen, country, *cities[chosen])


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Along the great circle between two places (latitude, longitude)."""
    (lat_a, lon_a), (lat_b, lon_b) = ((math.radians(x), math.radians(y)) for x, y in (a, b))
    half = math.sin((lat_a - lat_b) / 2) ** 2
    half += math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_a - lon_b) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(half, 1.0)))


def _country_of(own: str, lat: float, lon: float) -> str:
    """Of a cloud's region: from the table, else that of the nearest city."""
    if own in REGION_COUNTRIES:
        return REGION_COUNTRIES[own]
    places = [(country, place) for country, cities in CITIES.items() for place in cities.values()]
    return min(places, key=lambda entry: distance_km((lat, lon), entry[1]))[0]


def _hint(name: str, known: Mapping[str, object], otherwise: str) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; {otherwise}"
