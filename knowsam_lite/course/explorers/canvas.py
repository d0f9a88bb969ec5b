"""A picture on which a person clicks and drags, as a widget: for JupyterLab, Colab and VS Code alike."""

from collections.abc import Callable
from typing import Any

# The places are fractions of the picture's width and height; a click is a drag from a place to itself.
SCRIPT = """
export default {
  render({ model, el }) {
    const frame = document.createElement("div");
    frame.style.cssText = "position:relative;width:400px;touch-action:none;cursor:crosshair;user-select:none";
    const image = document.createElement("img");
    image.style.cssText = "width:400px;display:block";
    image.draggable = false;
    image.alt = "The picture, the prompts and the answer; click or drag here.";
    const box = document.createElement("div");
    box.style.cssText = "position:absolute;border:2px solid #88CCEE;display:none;pointer-events:none";
    frame.append(image, box);
    el.append(frame);
    let address;
    const show = () => {
      const old = address;
      address = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
      image.src = address;
      if (old) URL.revokeObjectURL(old);
    };
    show();
    model.on("change:png", show);
    const place = (event) => {
      const area = image.getBoundingClientRect();
      const share = (at, low, size) => Math.min(Math.max((at - low) / size, 0), 1);
      return [share(event.clientX, area.left, area.width), share(event.clientY, area.top, area.height)];
    };
    let start = null;
    image.addEventListener("pointerdown", (event) => {
      start = place(event);
      image.setPointerCapture(event.pointerId);
    });
    image.addEventListener("pointermove", (event) => {
      if (!start) return;
      const end = place(event);
      const sides = [0, 1].map((k) => [Math.min(start[k], end[k]), Math.abs(start[k] - end[k])]);
      box.style.display = "block";
      box.style.left = `${100 * sides[0][0]}%`;
      box.style.top = `${100 * sides[1][0]}%`;
      box.style.width = `${100 * sides[0][1]}%`;
      box.style.height = `${100 * sides[1][1]}%`;
    });
    image.addEventListener("pointerup", (event) => {
      if (!start) return;
      model.set("drag", [...start, ...place(event), event.timeStamp]);
      model.save_changes();
      start = null;
      box.style.display = "none";
    });
  },
};
"""


def canvas(dragged: Callable[[float, float, float, float], None]) -> Any:
    """A widget that shows the PNG in its `png` and calls `dragged(x0, y0, x1, y1)`, shares of the picture's
    width and height in [0, 1], after each click or drag.
    """
    import anywidget
    import traitlets

    class Canvas(anywidget.AnyWidget):
        _esm = SCRIPT
        png = traitlets.Bytes().tag(sync=True)
        drag = traitlets.List(traitlets.Float()).tag(sync=True)  # the four places, and when

    made = Canvas()
    made.observe(lambda change: dragged(*change["new"][:4]), "drag")
    return made
