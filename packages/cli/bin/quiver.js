#!/usr/bin/env node
// Plain JavaScript on purpose: a Node too old for Quiver cannot even read TypeScript, and should say so clearly.
const oldest = [22, 18]
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < oldest[0] || (major === oldest[0] && minor < oldest[1])) {
  process.stderr.write(
    `quiver needs Node ${oldest.join('.')} or newer, and this is ${process.versions.node}. ` +
      'Inside the repository, `npm start` and `npm run quiver` use the Node that `npm ci` has installed.\n',
  )
  process.exitCode = 1
} else {
  await import('../src/main.ts')
}
