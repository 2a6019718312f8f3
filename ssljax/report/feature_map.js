// Shows the image and the class of the dot that is pointed at.
const tip = document.querySelector(".tip");
const names = {};
for (const entry of document.querySelectorAll(".classes [data-class]"))
  names[entry.dataset.class] = entry.textContent;
document.addEventListener("pointerover", (event) => {
  const dot = event.target.closest(".map circle");
  tip.hidden = !dot;
  if (!dot) return;
  const { side, columns } = tip.dataset, index = Number(dot.dataset.image);
  tip.querySelector(".thumbnail").style.backgroundPosition =
    `${-side * (index % columns)}px ${-side * Math.floor(index / columns)}px`;
  tip.querySelector(".name").textContent = names[dot.dataset.class] ?? "";
  const place = dot.getBoundingClientRect();
  tip.style.left = `${Math.min(place.x, innerWidth - 160) + scrollX + 12}px`;
  tip.style.top = `${place.y + scrollY + 12}px`;
});
