// Planes and their places on the stage.

// Axes of each plane: across, up, and through. Axes are 0 (x, towards the right side), 1 (y, towards the front), and
// 2 (z, towards the head).
const PLANES = [
  { name: "Axial", across: 0, up: 1, through: 2 },
  { name: "Coronal", across: 0, up: 2, through: 1 },
  { name: "Sagittal", across: 1, up: 2, through: 0 },
];
// Letters at the first and last voxel of each axis.
const LETTERS = [["L", "R"], ["P", "A"], ["I", "S"]];

// Rectangles [left, top, width, height] of the planes, as parts of the stage.
function layout(width, height) {
  if (width > 1.15 * height) return [[0, 0, 0.6, 1], [0.6, 0, 0.4, 0.5], [0.6, 0.5, 0.4, 0.5]];
  return [[0, 0, 1, 0.62], [0, 0.62, 0.5, 0.38], [0.5, 0.62, 0.5, 0.38]];
}

// A slice of a volume: width, height, and its voxels with the across axis first.
function sliceOf(volume, plane, index) {
  const strides = [1, volume.dims[0], volume.dims[0] * volume.dims[1]];
  const [width, height] = [volume.dims[plane.across], volume.dims[plane.up]];
  const voxels = new volume.voxels.constructor(width * height);
  for (let v = 0, k = 0; v < height; v++) {
    let at = index * strides[plane.through] + v * strides[plane.up];
    for (let u = 0; u < width; u++, k++, at += strides[plane.across]) voxels[k] = volume.voxels[at];
  }
  return { width, height, voxels };
}
