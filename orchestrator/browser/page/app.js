// The label browser's page: a list that draws only what is seen, and a viewer of one image.

const TILE = { width: 180, height: 204 }, AHEAD = 2, IDLE_MS = 70, POLL_MS = 1200, RUNNING_MS = 10000
const element = (id) => document.getElementById(id)
const state = {
  sweep: null, ids: [], present: [], iou: [], uncertain: [], differing: [],
  opened: null, shown: [], current: 0, chosen: new Set(), generation: 0, image: null, remade: null,
}

async function ask(address, signal) {
  const answer = await fetch(address, { signal })
  if (answer.ok) return answer.json()
  const content = await answer.json().catch(() => ({}))
  throw Object.assign(new Error(content.error || answer.statusText), { lasting: answer.status < 500 })
}

const problems = new Map()  // what was asked for -> why it is not there

function tell(what, error = null) {
  if (error?.name === "AbortError") return
  if (error) problems.set(what, error.message)
  else problems.delete(what)
  const text = [...new Set(problems.values())].join("; ")
  for (const place of document.querySelectorAll(".problem")) {
    if (place.textContent !== text) place.textContent = text  // else it is read out again
  }
}

const percent = (value) => (value == null ? "–" : `${(100 * value).toFixed(0)} %`)
const figure = (value) => (value == null ? "–" : value.toFixed(3))
const first = () => element("first").value
const second = () => element("second").value
const selected = () => `${first()} ${second()}`
const configuration = (key) => state.sweep.configurations.find((one) => one.key === key)
const className = (id) => (id === 255 ? "ignored" : state.sweep.classes[id]?.name ?? `class ${id}`)
const path = (kind, key, id) => `/${kind}/${key}/${encodeURIComponent(id)}`

// The sweep and its label sets

function titled(one) {
  const place = one.rank == null ? "" : `${one.rank}. `
  const seed = one.seed == null ? "" : `, seed ${one.seed}`
  return `${place}${one.title}${seed}${one.miou == null ? "" : ` · mIoU ${figure(one.miou)}`}`
}

function fill(select, entries, none) {
  const before = select.value
  select.replaceChildren(...(none == null ? [] : [new Option(none, "")]), ...entries.map((entry) => new Option(entry.text, entry.value)))
  if ([...select.options].some((option) => option.value === before)) select.value = before
}

async function lookAtSweep() {
  state.sweep = await ask("/api/sweep")
  tell("sweep")
  const { name, configurations, classes, running } = state.sweep
  document.title = `${name}: pseudo-labels`
  element("title").textContent = name + (running ? " (running)" : "")
  const entries = configurations.map((one) => ({ text: titled(one), value: one.key }))
  fill(element("first"), entries)
  fill(element("second"), entries, "nothing")
  fill(element("class"), classes.slice(1).map((one) => ({ text: one.name, value: String(one.id) })), "any")
}

function lookAgain() {
  if (!state.sweep.running) return
  setTimeout(async () => {
    try {
      await lookAtSweep()
      if (!state.ids.length || state.opened !== selected()) {  // labels that were deleted are offered no more
        offerDifferences()
        await open()
      }
    } catch (error) { tell("sweep", error) } finally { lookAgain() }
  }, RUNNING_MS)
}

async function open() {
  const generation = ++state.generation
  state.opened = selected()
  if (!first()) {
    element("count").textContent = "no labels are stored yet; they appear here as the sweep makes them"
    return
  }
  let found = null, problem = null
  try { found = await ask(`/api/images/${first()}`) } catch (error) { problem = error }
  if (generation !== state.generation) return
  if (problem) return tell("labels", problem)
  for (const what of ["labels", "measures", "differing"]) tell(what)
  Object.assign(state, { ids: found.ids, present: found.classes, iou: [], uncertain: [], differing: [] })
  remember()
  apply()
  measure("measures", generation, first(), "", (row) => { state.iou.push(row[0]); state.uncertain.push(row[1]) })
  if (second()) measure("differing", generation, first(), second(), (row) => state.differing.push(row[0]))
}

async function measure(what, generation, key, other, take) {
  let since = 0
  const of_other = other ? `&other=${other}` : ""
  for (;;) {
    let found = null, problem = null
    try { found = await ask(`/api/measures/${key}?since=${since}${of_other}`) } catch (error) { problem = error }
    if (generation !== state.generation) return
    if (found) {
      found.rows.forEach(take)
      since += found.rows.length
      element("progress").textContent = since < found.of ? `measured ${since} of ${found.of}` : ""
      if (found.rows.length) apply(true)
      if (found.failure) problem = Object.assign(new Error(found.failure), { lasting: true })
    }
    tell(what, problem)
    if (problem?.lasting || since >= found?.of) return
    await new Promise((go) => setTimeout(go, POLL_MS))
    if (generation !== state.generation) return
  }
}

// The list

const value = (id) => Number(element(id).value || element(id).defaultValue)  // an empty field bounds nothing

function passes(index) {
  const wanted = element("class").value
  if (wanted && !state.present[index].includes(Number(wanted))) return false
  const low = value("iou-from"), high = value("iou-to"), iou = state.iou[index]
  if ((low > 0 || high < 1) && (iou == null || iou < low || iou > high)) return false
  if (value("uncertain") > 0 && !(state.uncertain[index] >= value("uncertain"))) return false
  if (second() && value("differing") > 0 && !(state.differing[index] >= value("differing"))) return false
  return !element("chosen-only").checked || state.chosen.has(state.ids[index])
}

function offerDifferences() {
  element("differing").disabled = !second()
  document.querySelector("#sort option[value=differing]").disabled = !second()
}

const ORDERS = {
  worst: (index) => state.iou[index] ?? 2,
  best: (index) => -(state.iou[index] ?? -1),
  uncertain: (index) => -(state.uncertain[index] ?? -1),
  differing: (index) => -(state.differing[index] ?? -1),
}

function apply(keep = false) {
  const at = state.shown[state.current]
  state.shown = state.ids.map((_, index) => index).filter(passes)
  const order = ORDERS[element("sort").value]
  if (order) state.shown.sort((a, b) => order(a) - order(b) || a - b)
  state.current = Math.max(0, state.shown.indexOf(at))
  if (!keep) element("grid").scrollTop = 0
  element("count").textContent = `${state.shown.length} of ${state.ids.length} images`
  tellChosen()
  draw()
}

function tellChosen() {
  const count = state.chosen.size
  element("export").disabled = !count
  element("export").textContent = count ? `Export list of ${count}` : "Export list"
}

const tiles = new Map()  // position in state.shown -> node
const spare = []
let idle = null, asked = false

const columns = () => Math.max(1, Math.floor((element("grid").clientWidth - 16) / TILE.width))

function draw() {
  if (asked) return
  asked = true
  requestAnimationFrame(() => { asked = false; drawNow() })
}

function drawNow() {
  const grid = element("grid"), across = columns(), rows = Math.ceil(state.shown.length / across)
  element("sheet").style.height = `${rows * TILE.height + 16}px`
  const from = Math.max(0, Math.floor(grid.scrollTop / TILE.height) - AHEAD) * across
  const to = Math.min(state.shown.length, (Math.ceil((grid.scrollTop + grid.clientHeight) / TILE.height) + AHEAD) * across)
  for (const [position, tile] of tiles) {
    if (position < from || position >= to) {
      tiles.delete(position)
      tile.hidden = true
      spare.push(tile)
    }
  }
  for (let position = from; position < to; position++) {
    let tile = tiles.get(position)
    if (!tile) {
      tile = spare.pop() ?? newTile()
      tiles.set(position, tile)
      tile.hidden = false
    }
    place(tile, position, across)
  }
  clearTimeout(idle)
  idle = setTimeout(loadPictures, IDLE_MS)
}

function newTile() {
  const tile = document.createElement("div")
  tile.className = "tile"
  tile.setAttribute("role", "option")
  const picture = new Image()
  picture.alt = ""
  picture.decoding = "async"
  const id = document.createElement("span"), measures = document.createElement("span")
  id.className = "id"
  measures.className = "measures"
  tile.append(picture, id, measures)
  tile.addEventListener("click", (event) => {
    select(tile.position)
    if (event.ctrlKey || event.metaKey) choose(state.shown[tile.position])
    else view()
  })
  element("sheet").append(tile)
  return tile
}

function place(tile, position, across) {
  const index = state.shown[position], id = state.ids[index]
  const [picture, name, measures] = tile.children
  tile.position = position
  tile.style.transform = `translate(${8 + (position % across) * TILE.width}px, ${8 + Math.floor(position / across) * TILE.height}px)`
  tile.classList.toggle("current", position === state.current)
  tile.classList.toggle("chosen", state.chosen.has(id))
  tile.setAttribute("aria-selected", state.chosen.has(id))
  tile.id = `tile-${position}`
  if (position === state.current) element("grid").setAttribute("aria-activedescendant", tile.id)
  const address = path("thumbnail", first(), id)
  if (tile.address !== address) {
    tile.address = address
    picture.removeAttribute("src")
    name.textContent = id
  }
  const parts = [`IoU ${figure(state.iou[index])}`]
  if (second()) parts.push(`differing ${percent(state.differing[index])}`)
  else parts.push(`unc. ${percent(state.uncertain[index])}`)
  measures.textContent = parts.join(" · ")
  tile.setAttribute("aria-label", `${id}, ${state.present[index].map(className).join(", ") || "no class"}, ${parts.join(", ")}`)
}

function loadPictures() {
  for (const tile of tiles.values()) {
    const picture = tile.firstChild
    if (!picture.hasAttribute("src")) picture.src = tile.address
  }
}

function select(position) {
  state.current = Math.min(Math.max(position, 0), Math.max(0, state.shown.length - 1))
  const grid = element("grid"), top = 8 + Math.floor(state.current / columns()) * TILE.height
  if (top < grid.scrollTop) grid.scrollTop = top
  if (top + TILE.height > grid.scrollTop + grid.clientHeight) grid.scrollTop = top + TILE.height - grid.clientHeight
  draw()
}

function choose(index) {
  const id = state.ids[index]
  if (id == null) return  // nothing passes the filters
  if (!state.chosen.delete(id)) state.chosen.add(id)
  element("chosen").checked = state.chosen.has(state.image?.id ?? id)
  tellChosen()
  draw()
}

// The viewer

let asking = null, remaking = null

async function view() {
  const index = state.shown[state.current]
  if (index == null) return
  const id = state.ids[index], viewer = element("viewer")
  for (const one of [asking, remaking]) one?.abort()
  asking = new AbortController()
  if (!viewer.open) viewer.showModal()
  state.image = { id, index, depth: 0 }
  element("shown-id").textContent = id
  element("chosen").checked = state.chosen.has(id)
  element("photo").src = path("photo", first(), id)
  element("photo").alt = id
  for (const name of ["layer-first", "layer-second"]) put(name, null)  // those of the image before
  element("shown-iou").textContent = ""
  table([])
  remember()
  try {
    const keys = [first(), ...(second() ? [second()] : [])]
    const found = await Promise.all(keys.map((key) => ask(path("api/image", key, id), asking.signal)))
    state.image = { id, index, depth: found[0].depth, present: found[0].present, size: found[0].size, agreements: found.map((one) => one.agreement) }
    fill(element("cam-class"), state.image.present.map((one) => ({ text: className(one), value: String(one) })))
    for (const bound of ["layer-from", "layer-to"]) element(bound).max = state.image.depth - 1
    tell("image")
    asStored()
    fit()
  } catch (error) { tell("image", error) }
}

function fit() {
  if (!state.image?.size) return
  const stage = element("stage"), [height, width] = state.image.size
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height)
  for (const picture of stage.querySelectorAll("img")) {
    picture.style.width = `${Math.round(width * scale)}px`
    picture.style.height = `${Math.round(height * scale)}px`
  }
  slide()
}

function asStored() {
  const stored = configuration(first())
  remaking?.abort()
  tell("remade")
  state.remade = null
  state.threshold = element("threshold").value = stored.threshold
  element("refined").checked = stored.layers.length > 0
  element("layer-from").value = stored.layers.length ? Math.min(...stored.layers) : 0
  element("layer-to").value = stored.layers.length ? Math.max(...stored.layers) : state.image.depth - 1
  state.layers = stored.layers
  show()
}

function thresholdMoved() {
  state.threshold = value("threshold")
  remake()
}

function layersMoved() {
  const from = Math.min(value("layer-from"), value("layer-to")), to = Math.max(value("layer-from"), value("layer-to"))
  state.layers = element("refined").checked ? Array.from({ length: to - from + 1 }, (_, offset) => from + offset) : []
  remake()
}

async function remake() {
  if (!state.image?.agreements) return  // still on its way
  remaking?.abort()
  remaking = new AbortController()
  tellSettings()
  const { id } = state.image
  const query = new URLSearchParams({ threshold: state.threshold, layers: state.layers.join(",") })
  try {
    const found = await ask(`${path("api/relabel", first(), id)}?${query}`, remaking.signal)
    if (state.image.id !== id) return
    tell("remade")
    state.remade = found
    show()
  } catch (error) { tell("remade", error) }
}

function tellSettings() {
  element("threshold-shown").textContent = Number(state.threshold.toFixed(4))
  element("layers-shown").textContent = state.layers.length ? state.layers.join(", ") : "none"
  for (const bound of ["layer-from", "layer-to"]) element(bound).disabled = !element("refined").checked
}

const shows = () => document.querySelector("input[name=show]:checked").value

function show() {
  if (!state.image?.agreements) return
  tellSettings()
  const { id, agreements, present } = state.image, kind = shows(), compares = Boolean(second()) && kind !== "none"
  const of = (key, made) => {
    if (kind === "label") return made && state.remade ? `data:image/png;base64,${state.remade.png}` : path("label", key, id)
    if (kind === "truth") return path("truth", key, id)
    if (kind === "cam" && present.length) {
      const layers = made ? state.layers : configuration(key).layers
      return `${path("cam", key, id)}?layers=${layers.join(",")}&class=${element("cam-class").value}`
    }
    return null
  }
  put("layer-first", of(first(), true))
  put("layer-second", compares && kind !== "truth" ? of(second(), false) : null)
  element("slide").hidden = !compares || kind === "truth"
  element("left-title").textContent = element("slide").hidden ? "" : titled(configuration(first()))
  element("right-title").textContent = element("slide").hidden ? "" : titled(configuration(second()))
  const own = state.remade ? state.remade.agreement : agreements[0]
  element("shown-iou").textContent = own ? `IoU ${figure(own.iou)}${state.remade ? ` (as stored ${figure(agreements[0].iou)})` : ""}` : "no mask"
  table([own, ...(second() ? [agreements[1]] : [])])
  opacity()
  fit()
}

function put(name, address) {
  if (address) element(name).src = address
  else element(name).removeAttribute("src")
}

function table(agreements) {
  const ids = [...new Set(agreements.flatMap((one) => Object.keys(one?.classes ?? {})))].sort((a, b) => a - b)
  element("column-second").hidden = agreements.length < 2
  element("column-second").textContent = "compared"
  const rows = ids.map((id) => {
    const row = document.createElement("tr"), head = document.createElement("td"), swatch = document.createElement("span")
    swatch.className = "swatch"
    swatch.style.background = state.sweep.classes[id]?.color ?? "#fff"
    head.append(swatch, className(Number(id)))
    row.append(head, ...agreements.map((one) => {
      const cell = document.createElement("td")
      cell.textContent = figure(one?.classes[id])
      return cell
    }))
    return row
  })
  document.querySelector("#ious tbody").replaceChildren(...rows)
}

function opacity() {
  for (const name of ["layer-first", "layer-second"]) element(name).style.opacity = value("opacity") / 100
}

function slide() {
  const compares = !element("slide").hidden
  const stage = element("stage"), width = element("photo").offsetWidth, edge = (stage.clientWidth - width) / 2
  const share = width ? ((value("slide") / 100) * stage.clientWidth - edge) / width : 0.5
  const cut = 100 * Math.min(1, Math.max(0, share))
  element("layer-first").style.clipPath = compares ? `inset(0 ${100 - cut}% 0 0)` : ""
  element("layer-second").style.clipPath = compares ? `inset(0 0 0 ${cut}%)` : ""
}

// Addresses, exports, keys

function remember() {
  const query = new URLSearchParams({ labels: first() })
  if (second()) query.set("other", second())
  if (element("viewer").open && state.image) query.set("image", state.image.id)
  element("link").href = `#${query}`
  history.replaceState(null, "", `#${query}`)
}

function exportChosen() {
  const text = [...state.chosen].sort().join("\n") + "\n"
  const link = document.createElement("a")
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }))
  link.download = `${state.sweep.name}-chosen.txt`
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 1000)
}

function step(by) {
  select(state.current + by)
  view()
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("select, input:not([type=checkbox]):not([type=radio])")
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return
  const viewing = element("viewer").open, across = columns()
  const page = Math.max(1, Math.floor(element("grid").clientHeight / TILE.height)) * across
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }
  if (event.key === "x") choose(viewing ? state.image.index : state.shown[state.current])
  else if (viewing && (event.key === "ArrowRight" || event.key === "ArrowLeft")) step(moves[event.key])
  else if (viewing && "1234".includes(event.key)) { document.querySelectorAll("input[name=show]")[event.key - 1].checked = true; show() }
  else if (!viewing && event.target === element("grid") && event.key in moves) {
    const to = state.current + moves[event.key]
    select(Number.isFinite(to) ? to : to < 0 ? 0 : state.shown.length - 1)
  } else if (!viewing && event.target === element("grid") && event.key === "Enter") view()
  else return
  event.preventDefault()
})

element("grid").addEventListener("scroll", draw, { passive: true })
new ResizeObserver(() => { draw(); fit() }).observe(element("grid"))
new ResizeObserver(fit).observe(element("stage"))
element("filters").addEventListener("submit", (event) => event.preventDefault())
element("filters").addEventListener("input", () => apply())
element("filters").addEventListener("reset", () => setTimeout(apply))
element("first").addEventListener("change", open)
element("second").addEventListener("change", () => { offerDifferences(); open() })
element("choose-all").addEventListener("click", () => { state.shown.forEach((index) => state.chosen.add(state.ids[index])); tellChosen(); draw() })
element("export").addEventListener("click", exportChosen)
element("chosen").addEventListener("change", () => choose(state.image.index))
element("previous").addEventListener("click", () => step(-1))
element("next").addEventListener("click", () => step(1))
element("close").addEventListener("click", () => element("viewer").close())
element("viewer").addEventListener("close", () => { state.image = null; asking?.abort(); remaking?.abort(); for (const what of ["image", "remade"]) tell(what); remember(); element("grid").focus() })
element("shows").addEventListener("input", show)
element("slide").addEventListener("input", slide)
element("threshold").addEventListener("input", thresholdMoved)
element("as-stored").addEventListener("click", asStored)
for (const name of ["refined", "layer-from", "layer-to"]) element(name).addEventListener("input", layersMoved)

async function begin() {
  await lookAtSweep()
  lookAgain()
  const asked = new URLSearchParams(location.hash.slice(1))
  if (configuration(asked.get("labels"))) element("first").value = asked.get("labels")
  if (configuration(asked.get("other"))) {
    element("second").value = asked.get("other")
    offerDifferences()
  }
  await open()
  const at = state.shown.findIndex((index) => state.ids[index] === asked.get("image"))
  if (at >= 0) { select(at); view() }
  element("grid").focus()
}

begin().catch((error) => tell("sweep", error))
