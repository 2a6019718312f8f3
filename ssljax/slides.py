"""What the slides published on DeepFashion's test set, in percent."""

from __future__ import annotations

# Slides "Self-supervised Learning for image classification on DeepFashion", University of Bern,
# 21 May 2019: top-1, top-3, top-5.
PUBLISHED = {
    "random": (52.175, 75.467, 85.173),
    "pretext": (47.364, 71.469, 82.164),
    "imagenet": (59.459, 81.184, 88.593),
}
