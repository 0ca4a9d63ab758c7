// @ts-check
/**
 * The reference of the API, drawn from /openapi.json: every operation with its parameters, body,
 * answers and a command to try it. Nothing is loaded from elsewhere.
 */

const METHODS = ["get", "post", "put", "patch", "delete"];

const answer = await fetch("/openapi.json");
const api = await answer.json();
place("about").replaceChildren(...marked(api.info.description));

for (const [path, operations] of Object.entries(api.paths)) {
  for (const method of METHODS) {
    if (operations[method]) add(method, path, operations[method]);
  }
}
document.getElementById(location.hash.slice(1))?.scrollIntoView();

/** @param {string} method @param {string} path @param {any} operation */
function add(method, path, operation) {
  const id = `${method}-${path.replaceAll(/[^a-z]+/gi, "-")}`;
  const link = node("a", {}, node("code", {}, `${method.toUpperCase()} ${path}`));
  link.href = `#${id}`;
  place("contents").append(node("li", {}, link));

  const section = node("section", { id, className: "operation" });
  section.append(node("h2", {}, node("code", {}, `${method.toUpperCase()} ${path}`)));
  section.append(node("p", {}, ...marked(operation.description || operation.summary || "")));
  const parameters = operation.parameters || [];
  if (parameters.length) section.append(node("h3", {}, "Parameters"), list(parameters.map(ofParameter)));
  for (const [type, body] of Object.entries(operation.requestBody?.content || {})) {
    section.append(node("h3", {}, `Body (${type})`), fields(body.schema));
  }
  section.append(node("h3", {}, "Answers"), answers(operation.responses));
  section.append(node("h3", {}, "Try it"), node("pre", {}, node("code", {}, command(method, path, operation))));
  place("operations").append(section);
}

/** @param {any} parameter */
function ofParameter(parameter) {
  return {
    name: parameter.name,
    kind: `${parameter.in}, ${kindOf(parameter.schema)}`,
    needed: parameter.required,
    text: parameter.description || "",
  };
}

/** What an object has in it. @param {any} schema */
function fields(schema) {
  const whole = resolved(schema);
  const needed = new Set(whole.required || []);
  return list(
    Object.entries(whole.properties || {}).map(([name, property]) => ({
      name,
      kind: kindOf(property),
      needed: needed.has(name),
      text: property.description || "",
    })),
  );
}

/** @param {{name: string, kind: string, needed?: boolean, text: string}[]} rows */
function list(rows) {
  const place = node("dl");
  for (const row of rows) {
    const term = node("dt", {}, node("code", {}, row.name), ` ${row.kind}${row.needed ? ", required" : ""}`);
    place.append(term, node("dd", {}, ...marked(row.text)));
  }
  return place;
}

/** @param {Record<string, any>} responses */
function answers(responses) {
  const place = node("dl");
  for (const [status, response] of Object.entries(responses)) {
    const schema = Object.values(response.content || {})[0]?.schema;
    place.append(node("dt", {}, node("code", {}, status), ` ${response.description}`));
    const isBody = schema && nameOf(schema) !== "Problem" && Object.keys(resolved(schema).properties || {}).length;
    place.append(node("dd", {}, isBody ? fields(schema) : ""));
  }
  return place;
}

/** The type of a value in a few words. @param {any} schema @returns {string} */
function kindOf(schema) {
  if (!schema) return "anything";
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return choices.map(kindOf).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((/** @type {any} */ value) => JSON.stringify(value)).join(" or ");
  if (schema.$ref) return nameOf(schema).replace(/(Answer|Body)$/, "").toLowerCase();
  if (schema.type === "array") return `list of ${kindOf(schema.items)}`;
  return schema.format === "binary" ? "file" : schema.type || "anything";
}

/** @param {any} schema */
function nameOf(schema) {
  return (schema?.$ref || "").split("/").pop();
}

/** @param {any} schema */
function resolved(schema) {
  return schema?.$ref ? api.components.schemas[nameOf(schema)] : schema || {};
}

/** @param {string} method @param {string} path @param {any} operation */
function command(method, path, operation) {
  const query = (operation.parameters || [])
    .filter((/** @type {any} */ parameter) => parameter.in === "query" && parameter.required)
    .map((/** @type {any} */ parameter) => `${parameter.name}=...`)
    .join("&");
  const words = [`curl ${location.origin}${path.replaceAll(/[{}]/g, "")}${query && `?${query}`}`.replace(/\?(.*)$/, "'?$1'")];
  if (method !== "get") words.push(`-X ${method.toUpperCase()}`);
  const content = operation.requestBody?.content || {};
  if (content["multipart/form-data"]) words.push(parts(resolved(content["multipart/form-data"].schema)));
  if (content["application/json"]) {
    const whole = resolved(content["application/json"].schema);
    const needed = whole.required || Object.keys(whole.properties || {}).slice(0, 1);
    const body = Object.fromEntries(
      needed.map((/** @type {string} */ name) => [name, whole.properties[name].examples?.[0] ?? "..."]),
    );
    words.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(body)}'`);
  }
  return words.join(" \\\n  ");
}

/** A form's fields that are needed or may be chosen, for curl. @param {any} schema */
function parts(schema) {
  return Object.entries(schema.properties)
    .filter(([name, field]) => schema.required.includes(name) || field.enum)
    .map(([name, field]) => `-F ${name}=${field.format === "binary" ? "@portrait.jpg" : (field.enum?.[0] ?? "...")}`)
    .join(" ");
}

/** A text whose `code` is code. @param {string} text */
function marked(text) {
  return text.split("`").map((part, index) => (index % 2 ? node("code", {}, part) : part));
}

/** @param {string} id */
function place(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** @param {string} tag @param {object} [properties] @param {...(Node | string)} children
 * @returns {any} */
function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
