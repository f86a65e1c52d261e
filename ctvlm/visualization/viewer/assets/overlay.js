// Drawn over the slices: outlines and names of regions, crosshair, letters of the sides, and captions.

const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';

function openOverlay(canvas, regions) {
  const cache = new Map();

  function shapes(plane, index) {
    const key = `${plane.name} ${index}`;
    if (!cache.has(key)) {
      if (cache.size > 100) cache.clear();
      const slice = sliceOf(regions, plane, index);
      cache.set(key, { lines: outlinesOf(slice), places: nameplaces(slice), slice });
    }
    return cache.get(key);
  }

  function write(context, text, x, y, colour) {
    context.lineWidth = 3;
    context.strokeStyle = "#000c";
    context.strokeText(text, x, y);
    context.fillStyle = colour;
    context.fillText(text, x, y);
  }

  function drawRegions(context, tile, state, shown) {
    const { lines, places, slice } = shapes(tile.plane, state.voxel[tile.plane.through]);
    for (const region of shown) {
      if (state.highlighted.has(region.id) && lines.has(region.id)) fill(context, tile, slice, region);
    }
    for (const region of shown) {
      const ends = lines.get(region.id);
      if (!ends) continue;
      context.beginPath();
      for (let i = 0; i < ends.length; i += 4) {
        context.moveTo(tile.x0 + tile.dx * ends[i], tile.y0 + tile.dy * ends[i + 1]);
        context.lineTo(tile.x0 + tile.dx * ends[i + 2], tile.y0 + tile.dy * ends[i + 3]);
      }
      context.strokeStyle = region.colour;
      context.lineWidth = state.highlighted.has(region.id) ? 2.4 : 1.2;
      context.stroke();
    }
    if (state.names) drawNames(context, tile, places, shown, state);
  }

  function fill(context, tile, { width, height, voxels }, region) {
    context.fillStyle = region.colour + "30";
    for (let v = 0; v < height; v++) {
      for (let u = 0; u < width; u++) {
        if (voxels[u + width * v] !== region.id) continue;
        let end = u + 1;
        while (end < width && voxels[end + width * v] === region.id) end++;
        context.fillRect(tile.x0 + tile.dx * u, tile.y0 + tile.dy * v, tile.dx * (end - u), tile.dy);
        u = end;
      }
    }
  }

  // Larger regions first. A name that would touch another one, or leave the tile, is omitted.
  function drawNames(context, tile, places, shown, state) {
    const area = Math.abs(tile.dx * tile.dy);
    const [left, top, width, height] = tile.rect;
    const taken = [];
    const order = shown.filter((region) => places.has(region.id));
    order.sort((a, b) => state.highlighted.has(b.id) - state.highlighted.has(a.id) || places.get(b.id).count - places.get(a.id).count);
    for (const region of order) {
      const place = places.get(region.id);
      if (place.count * area < 350) continue;
      const half = context.measureText(region.name).width / 2 + 3;
      const [x, y] = [tile.x0 + tile.dx * place.u, tile.y0 + tile.dy * place.v];
      const outside = x - half < left + 16 || x + half > left + width - 16 || y < top + 30 || y > top + height - 22;
      if (outside || taken.some((t) => Math.abs(t.x - x) < t.half + half && Math.abs(t.y - y) < 15)) continue;
      taken.push({ x, y, half });
      context.textAlign = "center";
      write(context, region.name, x, y, region.colour);
    }
  }

  function drawCrosshair(context, tile, voxel) {
    const [left, top, width, height] = tile.rect;
    const x = tile.x0 + tile.dx * (voxel[tile.plane.across] + 0.5);
    const y = tile.y0 + tile.dy * (voxel[tile.plane.up] + 0.5);
    context.beginPath();
    for (const [x1, y1, x2, y2] of [[left, y, x - 9, y], [x + 9, y, left + width, y], [x, top, x, y - 9], [x, y + 9, x, top + height]]) {
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
    }
    context.strokeStyle = "#62b0e870";
    context.lineWidth = 1;
    context.stroke();
  }

  function drawLabels(context, tile, state) {
    const [left, top, width, height] = tile.rect;
    const { across, up } = tile.plane;
    const [start, end] = LETTERS[across];
    const mirrored = tile.dx < 0;
    context.textAlign = "left";
    write(context, `${tile.plane.name} ${state.sliceName(tile.plane)}`, left + 9, top + 14, "#c4ccd4");
    context.font = `600 ${FONT}`;
    write(context, mirrored ? end : start, left + 7, top + height / 2, "#e8edf2");
    context.textAlign = "right";
    write(context, mirrored ? start : end, left + width - 7, top + height / 2, "#e8edf2");
    context.textAlign = "center";
    write(context, LETTERS[up][1], left + width / 2, top + 14, "#e8edf2");
    write(context, LETTERS[up][0], left + width / 2, top + height - 11, "#e8edf2");
    context.font = FONT;
  }

  return function draw(tiles, state) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = FONT;
    context.textBaseline = "middle";
    context.lineJoin = "round";
    const shown = content.regions.filter((r) => !state.hidden.has(r.id) && (state.outlines || state.highlighted.has(r.id)));
    for (const tile of tiles) {
      context.save();
      context.beginPath();
      context.rect(...tile.rect);
      context.clip();
      if (regions) drawRegions(context, tile, state, shown);
      drawCrosshair(context, tile, state.voxel);
      drawLabels(context, tile, state);
      context.restore();
      context.strokeStyle = "#27303a";
      context.lineWidth = 1;
      context.strokeRect(tile.rect[0] + 0.5, tile.rect[1] + 0.5, tile.rect[2], tile.rect[3]);
    }
  };
}
