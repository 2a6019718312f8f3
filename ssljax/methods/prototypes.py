"""What methods share that compare assignments of views to prototypes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp

from ssljax.methods import assignments
from ssljax.methods.contrast import normalize
from ssljax.methods.embeddings import JointEmbedding, by_group
from ssljax.methods.method import Tree
from ssljax.methods.parameter_groups import ParameterGroup
from ssljax.settings.options import option


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrototypeMethod(JointEmbedding):
    """A method with the heads `projector` and `prototypes`; it also takes local views."""

    freeze_prototypes: float = option(1.0, "epochs before the prototypes are trained", at_least=0)

    multi_crop: ClassVar[bool] = True
    uses_progress: ClassVar[bool] = True

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        """The prototypes are not trained at first."""
        frozen = self.freeze_prototypes
        return (
            ParameterGroup("*prototypes", lambda epochs: (epochs >= frozen).astype(jnp.float32)),
        )

    def outputs(self, net: Any, inputs: Tree) -> Tree:
        """`projections` float32[B, 2, D] of the global views, and `scores` float32[B, V, K]."""
        features = jnp.concatenate(by_group(net, inputs), axis=1)
        embeddings = normalize(net.projector(features))
        return {"projections": embeddings[:, :2], "scores": net.prototypes(embeddings)}

    def concerns(self, metrics: Mapping[str, float]) -> list[str]:
        """Says if embeddings or assignments have collapsed."""
        found = assignments.concerns(metrics, self.collapse_reasons)
        return super().concerns(metrics) or found
