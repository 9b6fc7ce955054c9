"""Opening a model of any kind, from wherever it is."""

from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.inference.artefact import is_exported
from vitpose_jax.keypoints.skeletons import Skeleton
from vitpose_jax.models.forecaster import Forecaster
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.models.pose_predictor import PosePredictor
from vitpose_jax.tasks.run import load_trained
from vitpose_jax.weights import forecaster as forecasters
from vitpose_jax.weights import load_forecaster, load_pose_model
from vitpose_jax.weights.loading import with_skeleton
from vitpose_jax.weights.sources import is_run
from vitpose_jax.weights.tensors import read_config

Model = PoseModel | Forecaster | PosePredictor


def open_model(
    source: str,
    step: str = "best",
    *,
    dataset: str | None = None,
    skeleton: Skeleton | None = None,
    num_heads: int | None = None,
    input_size: tuple[int, int] | None = None,
) -> Model:
    """A pose model or a forecaster, in float32.

    Args:
        source: a training run, or whatever `load_pose_model` or `load_forecaster` takes.
        step: which checkpoint of a run: "best", "latest", or a step.
        dataset, skeleton, num_heads, input_size: of a pose model, as for `load_pose_model`.

    Raises:
        UserError: it is none of these, is damaged, or an option does not fit it.
    """
    path = Path(source).expanduser()
    given = {"dataset": dataset, "num_heads": num_heads, "input_size": input_size}
    if is_exported(path):
        raise UserError(f"{source}: is exported already; give the weights that it was made from")
    if is_run(path):
        model = load_trained(path, step)[1]
        if wrong := [name for name, value in given.items() if value is not None]:
            raise UserError(f"{source}: a training run has its own {wrong[0]}; leave it out")
        assert isinstance(model, Model)
        if skeleton is not None and isinstance(model, PoseModel):
            model.config = with_skeleton(model.config, skeleton, source)
        return model
    if path.is_dir() and read_config(path).get("model_type") == forecasters.MODEL_TYPE:
        return load_forecaster(path)
    try:
        return load_pose_model(
            source, dataset=dataset, skeleton=skeleton, num_heads=num_heads, input_size=input_size
        )
    except UserError as error:
        if not path.is_file():
            raise
        try:
            return load_forecaster(path)
        except UserError:
            raise error from None
