// Opens each page of a directory in Chromium, as NGINX serves it, in each size
// and colour scheme, and writes a screenshot of all of it beside what was
// measured: one JSON object a line on standard output.
//
//	node look.cjs PAGES SCREENS CHROMIUM CSP
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const axe = require("axe-core");
const { chromium } = require("playwright-core");

const [pages, screens, executablePath, csp] = process.argv.slice(2);
const phone = { width: 360, height: 800 }, desk = { width: 1280, height: 900 };
const light = { name: "light", colorScheme: "light", contrast: "no-preference" };
const dark = { name: "dark", colorScheme: "dark", contrast: "no-preference" };
const contrast = { name: "contrast", colorScheme: "light", contrast: "more" };
const looks = [[phone, light], [phone, dark], [phone, contrast], [desk, light], [desk, dark]];
const args = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
// WCAG 2.1 level AA, and what axe's authors find good besides.
const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"];

// measure runs in the page. What is wider than the page and cannot be scrolled
// inside of something that can is cut off.
function measure() {
	const width = document.documentElement.clientWidth;
	const scrolled = (e) => e.closest(".copy") !== null;
	const over = [...document.querySelectorAll("main *, header *, footer *")]
		.filter((e) => !scrolled(e.parentElement) && e.getBoundingClientRect().right > width + 0.5)
		.map((e) => e.outerHTML.slice(0, 120));
	return { scrollWidth: document.documentElement.scrollWidth, clientWidth: width, over };
}

async function look(page, origin, name, size, scheme) {
	const result = { name, scheme: scheme.name, ...size, complaints: [], fetched: [] };
	const complain = (m) => result.complaints.push(typeof m.text === "function" ? m.text() : String(m));
	const fetch = (r) => r.url() === `${origin}/${name}.html` || result.fetched.push(r.url());
	page.on("console", complain).on("pageerror", complain).on("request", fetch);
	await page.goto(`${origin}/${name}.html`, { waitUntil: "load", timeout: 60000 });
	Object.assign(result, await page.evaluate(measure));
	result.screen = `${name}-${size.width}-${scheme.name}.png`;
	await page.screenshot({ path: path.join(screens, result.screen), fullPage: true });
	// evaluate is not subject to the page's policy, so axe needs no hole in it.
	await page.evaluate(axe.source);
	const report = await page.evaluate((values) => globalThis.axe.run(document, { runOnly: { type: "tag", values } }), tags);
	result.violations = report.violations.map((v) => ({ id: v.id, help: v.help, nodes: v.nodes.map((n) => `${n.html}: ${n.failureSummary}`) }));
	result.passes = report.passes.map((p) => p.id);
	page.off("console", complain).off("pageerror", complain).off("request", fetch);
	return result;
}

async function main() {
	const server = http.createServer((request, response) => {
		const file = path.join(pages, path.basename(request.url));
		if (!fs.existsSync(file)) {
			response.writeHead(404).end();
			return;
		}
		response.writeHead(200, { "Content-Type": "text/html", "Content-Security-Policy": csp });
		fs.createReadStream(file).pipe(response);
	});
	await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
	const browser = await chromium.launch({ executablePath, args, chromiumSandbox: false, timeout: 60000 });
	try {
		const origin = `http://127.0.0.1:${server.address().port}`;
		for (const [size, scheme] of looks) {
			const context = await browser.newContext({ viewport: size, colorScheme: scheme.colorScheme, contrast: scheme.contrast });
			const page = await context.newPage();
			for (const file of fs.readdirSync(pages).sort())
				console.log(JSON.stringify(await look(page, origin, path.basename(file, ".html"), size, scheme)));
			await context.close();
		}
	} finally {
		await browser.close();
		server.close();
	}
}

main().catch((e) => {
	console.error(e);
	process.exit(1);
});
