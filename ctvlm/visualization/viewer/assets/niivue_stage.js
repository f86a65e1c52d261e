// Slices and attention maps drawn by NiiVue (WebGL).

const ATTENTION = {
  R: [60, 90, 181, 237, 251, 252],
  G: [10, 18, 49, 105, 182, 255],
  B: [60, 89, 79, 37, 26, 164],
  A: [0, 160, 255, 255, 255, 255],
  I: [0, 40, 100, 160, 215, 255],
};

// Lowest attention that is drawn: the mean, or less if the peak is low.
function attentionFloor(peak) {
  return Math.min(1, 0.15 * peak);
}

function hasWebGL() {
  return Boolean(window.WebGL2RenderingContext && document.createElement("canvas").getContext("webgl2"));
}

async function niivueClass() {
  const source = new Blob([await unpack("niivue")], { type: "text/javascript" });
  return (await import(URL.createObjectURL(source))).Niivue;
}

async function openNiivue(container, volume) {
  const Niivue = await niivueClass();
  const canvas = container.appendChild(document.createElement("canvas"));
  const niivue = new Niivue({
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    isOrientationTextVisible: false,
    crosshairWidth: 0,
    dragAndDropEnabled: false,
    interactive: false,
    loadingText: "",
    logLevel: "error",
    backColor: [0, 0, 0, 1],
  });
  niivue.addColormap("attention", ATTENTION);
  let queue = Promise.resolve();
  await niivue.attachToCanvas(canvas);
  await niivue.loadFromArrayBuffer(volume.buffer, "ct.nii");
  arrange();

  function arrange() {
    const parts = layout(container.clientWidth, container.clientHeight);
    niivue.setCustomLayout(PLANES.map((_, i) => ({ sliceType: i, position: parts[i] })));
  }

  // As ``tiles`` of canvas_stage.js, from where NiiVue has drawn the planes.
  function tiles() {
    const ratio = niivue.uiData.dpr || 1;
    return niivue.screenSlices.map((slice) => {
      const plane = PLANES[slice.axCorSag];
      let [left, top, width, height] = slice.leftTopWidthHeight.map((n) => n / ratio);
      const mirrored = width < 0;
      if (mirrored) [left, width] = [left + width, -width];
      const [first, last] = [niivue.frac2mm([0, 0, 0]), niivue.frac2mm([1, 1, 1])];
      const part = (mm, axis, i) => (mm[axis] - slice.leftTopMM[i]) / slice.fovMM[i];
      const [u0, u1] = [part(first, plane.across, 0), part(last, plane.across, 0)];
      const [v0, v1] = [part(first, plane.up, 1), part(last, plane.up, 1)];
      const side = mirrored ? -1 : 1;
      return {
        plane,
        rect: [left, top, width, height],
        x0: left + width * (mirrored ? 1 - u0 : u0),
        dx: (side * width * (u1 - u0)) / volume.dims[plane.across],
        y0: top + height * (1 - v0),
        dy: (-height * (v1 - v0)) / volume.dims[plane.up],
      };
    });
  }

  return {
    tiles,
    niivue,
    draw() {
      niivue.resizeListener();
      arrange();
    },
    setRange(low, high) {
      Object.assign(niivue.volumes[0], { cal_min: low, cal_max: high });
      niivue.updateGLVolume();
    },
    setVoxel(voxel) {
      niivue.scene.crosshairPos = voxel.map((v, axis) => (v + 0.5) / volume.dims[axis]);
      niivue.drawScene();
    },
    // One after another: a call during the loading of another map would show both.
    setAttention(id, peak) {
      queue = queue.catch(() => {}).then(() => showAttention(id, peak));
      return queue;
    },
    hasAttention: true,
  };

  async function showAttention(id, peak) {
    while (niivue.volumes.length > 1) niivue.removeVolumeByIndex(1);
    if (id !== null) {
      await niivue.loadFromArrayBuffer(await unpack(id), "attention.nii");
      // Values up to cal_min have the first colour, which is transparent.
      const settings = { colormap: "attention", colormapType: 0, opacity: 0.6, cal_min: attentionFloor(peak), cal_max: peak };
      Object.assign(niivue.volumes[1], settings);
    }
    niivue.updateGLVolume();
  }
}
