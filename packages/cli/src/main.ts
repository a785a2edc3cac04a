#!/usr/bin/env node
/** Checks what runs it before anything newer than that is loaded. */
const oldest = [22, 18] as const
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

if (major < oldest[0] || (major === oldest[0] && minor < oldest[1])) {
  process.stderr.write(
    `quiver needs Node ${oldest.join('.')} or newer, and this is ${process.versions.node}. ` +
      'Inside the repository, `npm start` and `npm run quiver` use the Node that `npm ci` has installed.\n',
  )
  process.exitCode = 1
} else {
  const { runProgram } = await import('./program.ts')
  await runProgram(process.argv.slice(2))
}
