"""Templates of 15 brains and of the visits of one person.

    python -m scripts.bench template run --work DIR

Group: a template of the 15 T1 brains of shared/data/brains with the default settings. For pairs of
brains, the labels of one are warped to the other through the template (the inverse of its
transform, then the transform of the first; one interpolation), beside a direct registration with
the default preset. Dice is the mean over labels of at least 100 voxels in both maps, nearest
neighbour, as in the study brains. Sharpness is the root mean square gradient over the standard
deviation of the intensities in the foreground. A template by greedy is built as ANTs' scripts do
(Avants et al. 2010, doi:10.1016/j.neuroimage.2009.09.062): the affine mean on the grid of the first
image, then --greedy-iterations updates by the mean intensity and a quarter of the mean
displacement.

Visits: two visits of one person with multiple sclerosis in three contrasts (Lesjak et al. 2016),
never resampled. The transform from visit 1 to visit 2 through the midpoint of both is compared with
the published affines, over the foreground, beside direct rigid registrations; the published ones
are automatic, so good to about a millimetre. The images are also given in the other order. The same
for the three contrasts of each visit, in the space halfway between all three.

Builds are kept in --work and continued. Direct registrations are measured for --offsets: brain i is
registered to brains i + offset. The default sharpening was chosen with the
tuning brains 1000, 1001, 1006, 1007, 1008, 1009, 1010 and 1011.
"""

from scripts.bench.studies.template.page import report
from scripts.bench.studies.template.study import Options, run

__all__ = ["Options", "report", "run"]
