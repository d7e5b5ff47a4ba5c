"use strict";
// On a phone a row is a card, in which each field has the head of its column beside it.
for (const table of document.querySelectorAll(".wide table")) {
  const heads = [...table.tHead.rows].map((row) =>
    [...row.cells].flatMap((cell) => Array(cell.colSpan).fill(cell.textContent)));
  for (const row of table.tBodies[0].rows)
    [...row.cells].forEach((cell, i) => {
      cell.dataset.head = heads.map((names) => names[i]).filter(Boolean).join(", ");
    });
}
document.documentElement.classList.add("cards");
