// Simple slices on a 2D canvas, for browsers without WebGL.

function openCanvas(container, volume) {
  const canvas = container.appendChild(document.createElement("canvas"));
  const sizes = voxelSizes(volume);
  let range = [-160, 240];
  let voxel = [0, 0, 0];

  // Where a plane lies on the stage: x = x0 + dx * u and y = y0 + dy * v, for voxels u across and v up.
  function tiles() {
    const { clientWidth, clientHeight } = container;
    return layout(clientWidth, clientHeight).map((part, i) => {
      const plane = PLANES[i];
      const [left, top, width, height] = part.map((p, k) => p * (k % 2 ? clientHeight : clientWidth));
      const [mmAcross, mmUp] = [plane.across, plane.up].map((axis) => volume.dims[axis] * sizes[axis]);
      const scale = Math.min(width / mmAcross, height / mmUp);
      // The patient's right and front are on the left of the picture.
      const dx = -scale * sizes[plane.across];
      const x0 = left + (width + mmAcross * scale) / 2;
      const y0 = top + (height + mmUp * scale) / 2;
      return { plane, rect: [left, top, width, height], x0, dx, y0, dy: -scale * sizes[plane.up] };
    });
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = container.clientWidth * ratio;
    canvas.height = container.clientHeight * ratio;
    const context = canvas.getContext("2d");
    for (const { plane, x0, dx, y0, dy } of tiles()) {
      const { width, height, voxels } = sliceOf(volume, plane, voxel[plane.through]);
      const image = new ImageData(width, height);
      for (let i = 0; i < voxels.length; i++) {
        const grey = (255 * (voxels[i] - range[0])) / (range[1] - range[0]);
        image.data.set([grey, grey, grey, 255], 4 * i);
      }
      const picture = document.createElement("canvas");
      Object.assign(picture, { width, height });
      picture.getContext("2d").putImageData(image, 0, 0);
      context.setTransform(ratio * dx, 0, 0, ratio * dy, ratio * x0, ratio * y0);
      context.drawImage(picture, 0, 0);
    }
  }

  return {
    tiles,
    draw,
    setRange: (low, high) => { range = [low, high]; },
    setVoxel: (to) => { voxel = to; },
    setAttention: async () => {},
    hasAttention: false,
  };
}
