// Outlines of the regions in a slice (marching squares), and the place for each name.

// Ends of the line in a square for each set of corners inside: 1 lower left, 2 lower right, 4 upper right, 8 upper left.
// Edges are 0 bottom, 1 right, 2 top, 3 left.
const LINES = [
  [], [[3, 0]], [[0, 1]], [[3, 1]], [[1, 2]], [[3, 0], [1, 2]], [[0, 2]], [[3, 2]],
  [[2, 3]], [[2, 0]], [[0, 1], [2, 3]], [[2, 1]], [[1, 3]], [[1, 0]], [[0, 3]], [],
];
const EDGES = [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]];

// Region id to its lines [u1, v1, u2, v2, ...] in voxels; the centre of the first voxel is at (0.5, 0.5).
function outlinesOf({ width, height, voxels }) {
  const lines = new Map();
  const at = (u, v) => (u < 0 || v < 0 || u >= width || v >= height ? 0 : voxels[u + width * v]);
  for (let v = -1; v < height; v++) {
    for (let u = -1; u < width; u++) {
      const corners = [at(u, v), at(u + 1, v), at(u + 1, v + 1), at(u, v + 1)];
      if (corners[0] === corners[1] && corners[0] === corners[2] && corners[0] === corners[3]) continue;
      for (const id of new Set(corners)) {
        if (id === 0) continue;
        const inside = corners.reduce((sum, corner, i) => sum + (corner === id ? 1 << i : 0), 0);
        if (!lines.has(id)) lines.set(id, []);
        for (const ends of LINES[inside]) {
          for (const edge of ends) lines.get(id).push(u + 0.5 + EDGES[edge][0], v + 0.5 + EDGES[edge][1]);
        }
      }
    }
  }
  return lines;
}

// Region id to { u, v, count }: the middle of its longest run of voxels, where its name fits best.
function nameplaces({ width, height, voxels }) {
  const places = new Map();
  for (let v = 0; v < height; v++) {
    for (let u = 0; u < width; ) {
      const id = voxels[u + width * v];
      let end = u + 1;
      while (end < width && voxels[end + width * v] === id) end++;
      if (id !== 0) {
        const place = places.get(id) ?? { length: 0, count: 0 };
        place.count += end - u;
        if (end - u > place.length) Object.assign(place, { length: end - u, u: (u + end) / 2, v: v + 0.5 });
        places.set(id, place);
      }
      u = end;
    }
  }
  return places;
}
