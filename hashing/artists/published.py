"""Published figures of artists told apart, to stand beside those that are measured here.

ARI and AMI of Royo-Letelier et al., "Disambiguating music artists at scale with audio metric
learning" (ISMIR 2018), read off its figures. They are of other music, of other names and of larger
training sets than those here, so that only their order compares.
"""

from __future__ import annotations

# By system and artists; each of them has 100 minutes.
BALANCED = {
    ("classifier", 25): (0.318, 0.312),
    ("classifier", 50): (0.319, 0.320),
    ("classifier", 100): (0.344, 0.343),
    ("classifier", 200): (0.470, 0.462),
    ("classifier", 400): (0.544, 0.522),
    ("classifier", 600): (0.599, 0.579),
    ("metric", 25): (0.447, 0.422),
    ("metric", 50): (0.560, 0.527),
    ("metric", 100): (0.524, 0.490),
    ("metric", 200): (0.559, 0.527),
    ("metric", 400): (0.602, 0.572),
    ("metric", 600): (0.582, 0.557),
}
# Of 1,749 artists with 1.5 to 45 minutes each, of the 1,002 that have enough, cut down to as much,
# and of all with as much, repeated where there is less.
SHAPED = {
    ("metric", "long-tailed"): (0.625, 0.601),
    ("classifier", "cut"): (0.541, 0.523),
    ("classifier", "repeated"): (0.470, 0.458),
}
# Of the metric system, by the probability that a negative shares its anchor's genre; 3,023 artists.
SIDE_INFORMATION = {
    0.0: (0.545, 0.512),
    0.25: (0.602, 0.576),
    0.5: (0.643, 0.623),
    0.75: (0.595, 0.576),
}
