/** Loading and unloading as vLLM's and SGLang's clients do it: statuses and texts are theirs. */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { type AdminUnderTest, smallAdapter, startAdmin } from '../../support/admin-under-test.ts'
import { firstCommit } from '../../support/hub-adapters.ts'
import { startHub } from '../../support/hub-server.ts'
import { temporaryFolder } from '../../support/temporary-folder.ts'

let under: AdminUnderTest
afterEach(() => under.close())

/** With the adapters `a` and `bad` below its root, and `acme/sql` on the hub. */
async function start(): Promise<string> {
  const root = await temporaryFolder()
  const write = async (name: string, config: Record<string, unknown> = {}) => {
    const adapter = smallAdapter(1, config)
    await mkdir(path.join(root, name), { recursive: true })
    await writeFile(path.join(root, name, 'adapter_config.json'), adapter.config)
    await writeFile(path.join(root, name, 'adapter_model.safetensors'), adapter.weights)
  }
  await write('a')
  await write('bad', { use_dora: true })
  const hub = await startHub({ 'acme/sql': { commits: { [firstCommit]: path.join(root, 'a') }, refs: { main: firstCommit } } })
  under = await startAdmin({ localRoots: [root], hubEndpoint: hub.endpoint })
  return root
}

const refusal = (type: string, code: number, message: unknown) => ({ error: { message, type, param: null, code } })

describe("vLLM's routes", () => {
  const load = (body: object) => under.ask('POST', '/v1/load_lora_adapter', body)
  const unload = (body: object) => under.ask('POST', '/v1/unload_lora_adapter', body)

  test('load a folder, serve it, and unload it', async () => {
    const root = await start()
    const loaded = await load({ lora_name: 'sql', lora_path: path.join(root, 'a') })
    expect([loaded.status, loaded.text]).toEqual([200, "Success: LoRA adapter 'sql' added successfully."])
    expect((await under.post('/v1/completions', { model: 'sql', prompt: 'Hi' })).status).toBe(200)
    await expect.poll(() => under.worker.orders.map(({ kind }) => kind)).toContain('prefetch')
    const removed = await unload({ lora_name: 'sql', lora_int_id: 1 })
    expect([removed.status, removed.text]).toEqual([200, "Success: LoRA adapter 'sql' removed successfully."])
    expect((await under.post('/v1/completions', { model: 'sql', prompt: 'Hi' })).status).toBe(404)
    expect((await load({ lora_name: 'sql', lora_path: 'a' })).status).toBe(200)
  })

  test('load from the hub what is no folder', async () => {
    await start()
    expect((await load({ lora_name: 'sql', lora_path: 'acme/sql' })).status).toBe(200)
    expect((await under.ask('GET', '/admin/adapters/sql')).json).toMatchObject({
      versions: [{ source: { type: 'hub', revision: firstCommit } }],
    })
  })

  test('refuse a name that is there, unless it shall be loaded in place', async () => {
    await start()
    await load({ lora_name: 'sql', lora_path: 'a' })
    const again = await load({ lora_name: 'sql', lora_path: 'a' })
    const text =
      "The lora adapter 'sql' has already been loaded. If you want to load the adapter in place, set 'load_inplace' to True."
    expect([again.status, again.json]).toEqual([400, refusal('InvalidUserInput', 400, text)])
    expect((await load({ lora_name: 'sql', lora_path: 'a', load_inplace: true })).status).toBe(200)
  })

  test('refuse in its words', async () => {
    await start()
    const both = "Both 'lora_name' and 'lora_path' must be provided."
    expect((await load({ lora_name: 'sql' })).json).toEqual(refusal('InvalidUserInput', 400, both))
    expect((await load({ lora_name: '', lora_path: 'a' })).json).toEqual(refusal('InvalidUserInput', 400, both))
    expect((await unload({})).json).toEqual(
      refusal('InvalidUserInput', 400, "'lora_name' needs to be provided to unload a LoRA adapter."),
    )
    const missing = await unload({ lora_name: 'x' })
    expect([missing.status, missing.json]).toEqual([404, refusal('NotFoundError', 404, "The lora adapter 'x' cannot be found.")])
    const bad = await load({ lora_name: 'x', lora_path: 'bad' })
    expect([bad.status, bad.json]).toEqual([400, refusal('BadRequestError', 400, expect.stringMatching(/dora/i))])
    const nowhere = await load({ lora_name: 'x', lora_path: 'acme/nothing' })
    expect([nowhere.status, nowhere.json]).toEqual([404, refusal('NotFoundError', 404, expect.any(String))])
    expect((await load({ lora_name: 'x', lora_path: '/etc' })).status).toBe(403)
    expect((await load({ lora_name: '../x', lora_path: 'a' })).json).toEqual(refusal('BadRequestError', 400, expect.any(String)))
  })
})

describe("SGLang's routes", () => {
  test('load, pin and unload, and refuse with 400', async () => {
    await start()
    const loaded = await under.ask('POST', '/load_lora_adapter', { lora_name: 'sql', lora_path: 'a', pinned: true })
    expect([loaded.status, loaded.json]).toEqual([
      200,
      { success: true, error_message: '', loaded_adapters: { sql: { lora_name: 'sql', lora_path: 'a', pinned: true } } },
    ])
    expect((await under.ask('GET', '/admin/adapters/sql')).json).toMatchObject({ pinned: true })
    const again = await under.ask('POST', '/load_lora_adapter', { lora_name: 'sql', lora_path: 'a' })
    expect([again.status, again.json]).toMatchObject([400, { success: false, error_message: expect.stringContaining('already') }])
    const removed = await under.ask('POST', '/unload_lora_adapter', { lora_name: 'sql' })
    expect([removed.status, removed.json]).toEqual([200, { success: true, error_message: '', loaded_adapters: {} }])
    expect((await under.ask('POST', '/unload_lora_adapter', { lora_name: 'sql' })).status).toBe(400)
  })
})
