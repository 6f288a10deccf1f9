// Everything that is drawn on a canvas: pictures, points in the plane, bars, histograms, lines.

/** A colour of the style sheet, which knows day and night. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function cleared(target, fill) {
  const context = target.getContext("2d");
  context.fillStyle = fill ?? colour("surface");
  context.fillRect(0, 0, target.width, target.height);
  return context;
}

/** How large a sheet of pictures is, and where each lies. */
export function sheet([, height, width], count, columns, side) {
  const scale = Math.max(1, Math.floor(side / columns / width));
  const gap = columns > 1 ? Math.max(2, Math.floor(scale / 4)) : 0;
  const [w, h] = [width * scale + gap, height * scale + gap];
  const lines = Math.ceil(count / columns);
  return {
    scale,
    width: columns * w - gap,
    height: lines * h - gap,
    at: (index) => [(index % columns) * w, Math.floor(index / columns) * h, width * scale, height * scale],
    index: ([x, y]) => {
      const found = Math.floor(y / h) * columns + Math.min(columns - 1, Math.floor(x / w));
      return found >= 0 && found < count ? found : -1;
    },
  };
}

/** Pictures (B, C, H, W) on a sheet, between the values that are black and white, and nothing in between. */
export function pictures(target, values, space, place) {
  [target.width, target.height] = [place.width, place.height];
  target.classList.add("pixels");
  const context = cleared(target, colour("line"));
  const size = space.shape.reduce((a, b) => a * b, 1);
  for (let index = 0; index * size < values.length; index += 1) {
    const image = picture(values.subarray(index * size, (index + 1) * size), space, place.scale);
    const [x, y] = place.at(index);
    context.putImageData(image, x, y);
  }
}

/** One picture (C, H, W), each of its pixels magnified to a square. */
export function picture(values, { shape: [channels, height, width], display: [low, high] }, scale) {
  const image = new ImageData(width * scale, height * scale);
  for (let y = 0; y < height * scale; y += 1) {
    for (let x = 0; x < width * scale; x += 1) {
      const from = Math.floor(y / scale) * width + Math.floor(x / scale);
      const to = 4 * (y * width * scale + x);
      for (let channel = 0; channel < 3; channel += 1) {
        const value = values[(channels === 3 ? channel : 0) * height * width + from];
        image.data[to + channel] = Math.round((255 * (value - low)) / (high - low));
      }
      image.data[to + 3] = 255;
    }
  }
  return image;
}

/** A square piece of the plane on a canvas: where numbers lie, and what number a place is. */
export class Plane {
  constructor(target, [left, right], [bottom, top]) {
    Object.assign(this, { target, left, right, bottom, top });
    this.context = cleared(target);
    this.axes();
  }

  x(value) { return ((value - this.left) / (this.right - this.left)) * this.target.width; }

  y(value) { return (1 - (value - this.bottom) / (this.top - this.bottom)) * this.target.height; }

  /** The numbers at a place of the canvas. */
  numbers([x, y]) {
    const { width, height } = this.target;
    return [
      this.left + (x / width) * (this.right - this.left),
      this.bottom + (1 - y / height) * (this.top - this.bottom),
    ];
  }

  axes() {
    const { context, target } = this;
    const step = niceStep(Math.max(this.right - this.left, this.top - this.bottom) / 6);
    context.font = `${target.width / 30}px system-ui, sans-serif`;
    context.lineWidth = 1;
    for (let tick = Math.ceil(this.left / step) * step; tick < this.right; tick += step) {
      if (tick - this.left < step / 3) continue;
      this.rule([[tick, this.bottom], [tick, this.top]], Math.abs(tick) < step / 2);
      this.name(tick, step, this.x(tick) + 5, target.height - 8);
    }
    for (let tick = Math.ceil(this.bottom / step) * step; tick < this.top; tick += step) {
      if (tick - this.bottom < step / 3) continue;
      this.rule([[this.left, tick], [this.right, tick]], Math.abs(tick) < step / 2);
      this.name(tick, step, 6, this.y(tick) - 5);
    }
  }

  rule(ends, through) {
    this.path(ends, colour(through ? "axis" : "line"), 1);
  }

  name(tick, step, x, y) {
    this.context.fillStyle = colour("muted");
    const digits = Math.max(0, Math.ceil(-Math.log10(step)));
    this.context.fillText(tick.toFixed(digits).replace("-", "−"), x, y);
  }

  path(points, stroke, width) {
    this.context.strokeStyle = stroke;
    this.context.lineWidth = width;
    this.context.beginPath();
    points.forEach(([x, y], index) => this.context[index ? "lineTo" : "moveTo"](this.x(x), this.y(y)));
    this.context.stroke();
  }

  /** Points (B, 2) in a row. */
  points(values, fill, radius, alpha = 1) {
    this.context.fillStyle = fill;
    this.context.globalAlpha = alpha;
    for (let row = 0; row + 1 < values.length; row += 2) this.dot(values[row], values[row + 1], radius);
    this.context.globalAlpha = 1;
  }

  dot(x, y, radius) {
    this.context.beginPath();
    this.context.arc(this.x(x), this.y(y), radius, 0, 7);
    this.context.fill();
  }

  /** A point that is meant: with a rim, and perhaps a name. */
  mark([x, y], fill, name) {
    this.context.fillStyle = colour("surface");
    this.dot(x, y, 15);
    this.context.fillStyle = fill;
    this.dot(x, y, 11);
    if (!name) return;
    this.context.font = `bold ${this.target.width / 26}px system-ui, sans-serif`;
    this.context.fillText(name, this.x(x) + 20, this.y(y) - 12);
  }
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
}

/** Numbers as bars up and down from a line, with their standard deviations if there are any. */
export function bars(target, values, { limit = 3, fill = colour("accent"), deviations = null } = {}) {
  const context = cleared(target);
  const [middle, width] = [target.height / 2, target.width / values.length];
  const tall = (value) => (Math.max(-limit, Math.min(limit, value)) / limit) * (middle - 2);
  context.fillStyle = colour("line");
  context.fillRect(0, middle, target.width, 1);
  values.forEach((value, index) => {
    const [x, height] = [index * width + width * 0.15, tall(value)];
    context.fillStyle = fill;
    context.fillRect(x, middle - Math.max(0, height), width * 0.7, Math.abs(height) || 1);
    if (!deviations) return;
    const [top, bottom] = [tall(value + deviations[index]), tall(value - deviations[index])];
    context.fillStyle = colour("ink");
    context.fillRect(x + width * 0.35 - 1, middle - top, 2, top - bottom);
  });
}

/** Counts between edges, and scores as marks below; those beyond the axis stand at its end. */
export function histogram(target, { edges, counts }, scores, [left, right]) {
  const context = cleared(target);
  const [floor, most] = [target.height - 78, Math.max(...counts)];
  const x = (value) => 14 + ((Math.max(left, Math.min(right, value)) - left) / (right - left)) * (target.width - 28);
  context.fillStyle = colour("bar");
  counts.forEach((count, index) => {
    const height = (count / most) * (floor - 14);
    context.fillRect(x(edges[index]), floor - height, Math.max(1, x(edges[index + 1]) - x(edges[index]) - 1), height);
  });
  context.fillStyle = colour("axis");
  context.fillRect(14, floor, target.width - 28, 2);
  names(context, left, right, x, target.height - 8, target.height / 13);
  context.globalAlpha = Math.max(0.15, Math.min(0.9, 30 / scores.length));
  for (const score of scores) {
    const beyond = score < left || score > right;
    context.fillStyle = colour(score < edges[0] || score > edges.at(-1) ? "second" : "accent");
    context.fillRect(x(score) - (beyond ? 4 : 1.5), floor + 6, beyond ? 8 : 3, 26);
  }
  context.globalAlpha = 1;
}

function names(context, left, right, x, y, size) {
  const step = niceStep((right - left) / 6);
  context.font = `${size}px system-ui, sans-serif`;
  context.fillStyle = colour("muted");
  context.textAlign = "center";
  for (let tick = Math.ceil(left / step) * step; tick <= right; tick += step) {
    const digits = Math.max(0, Math.ceil(-Math.log10(step)));
    context.fillText(tick.toFixed(digits).replace("-", "−"), Math.max(40, Math.min(context.canvas.width - 40, x(tick))), y);
  }
  context.textAlign = "start";
}

/** The last values as a line that ends at the right. */
export function spark(target, values, room) {
  const context = target.getContext("2d");
  context.clearRect(0, 0, target.width, target.height);
  const most = Math.max(...values, 1e-9);
  context.strokeStyle = colour("accent");
  context.lineWidth = 2;
  context.beginPath();
  values.forEach((value, index) => {
    const x = target.width - (values.length - 1 - index) * (target.width / (room - 1));
    context[index ? "lineTo" : "moveTo"](x, target.height - 2 - (value / most) * (target.height - 4));
  });
  context.stroke();
}
