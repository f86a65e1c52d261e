"use strict";

// Content of the page: JSON and compressed NIfTI files in script elements.

const content = JSON.parse(document.getElementById("page-content").textContent);

const ARRAYS = { 2: Uint8Array, 4: Int16Array };

async function unpack(id) {
  const binary = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

// A NIfTI file in RAS+ order: its bytes, size (x, y, z), voxels with x first, and affine (rows) to mm.
async function readVolume(id) {
  const buffer = await unpack(id);
  const header = new DataView(buffer);
  const dims = [1, 2, 3].map((axis) => header.getInt16(40 + 2 * axis, true));
  const start = header.getFloat32(108, true);
  const voxels = new ARRAYS[header.getInt16(70, true)](buffer, start, dims[0] * dims[1] * dims[2]);
  const affine = [0, 1, 2].map((row) => [0, 1, 2, 3].map((col) => header.getFloat32(280 + 16 * row + 4 * col, true)));
  return { buffer, dims, voxels, affine };
}

function voxelAt(volume, [x, y, z]) {
  return volume.voxels[x + volume.dims[0] * (y + volume.dims[1] * z)];
}

function millimetres(volume, [x, y, z]) {
  return volume.affine.map((row) => row[0] * x + row[1] * y + row[2] * z + row[3]);
}

function voxelSizes(volume) {
  return [0, 1, 2].map((col) => Math.hypot(...volume.affine.map((row) => row[col])));
}
