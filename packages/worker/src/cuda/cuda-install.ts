/**
 * `quiver cuda install`: puts ONNX Runtime's CUDA provider, and what it needs of CUDA, into a folder of the cache. Every package is a
 * folder of its own that gets its name when it is complete: what an interrupted installation had done is found by the next.
 */
import { rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { type Progress, ServingError } from '@quiver/protocol'
import { builtFolder } from '../engine/onnx/built-folder.ts'
import { sealFolder } from '../engine/onnx/folder-seal.ts'
import { downloadWheel, type PipDeps } from '../model/pip.ts'
import { throwIfStopped } from '../model/sleep.ts'
import { sha256OfFile, writeHashed } from '../model/verified-file.ts'
import { withZipEntry } from '../model/zip-entry.ts'
import { type CudaPackage, libraryPackages, providerPackage, wheelTarget } from './cuda-packages.ts'

export interface CudaInstall {
  /** Where the packages' folders are. */
  readonly folder: string
  readonly python: string
  readonly platform: string
  readonly arch: string
  /** Absent: those that this version of Quiver needs. */
  readonly packages?: readonly CudaPackage[]
  /** Absent: the platform and Python of `packages`. */
  readonly pipOptions?: readonly string[]
}

export interface CudaInstallDeps extends PipDeps {
  readonly onProgress: (progress: Progress) => void
  /** One line for a person. */
  readonly say: (line: string) => void
  /** Whether the system's own loader finds a library by this name. */
  readonly hasLibrary: (name: string) => boolean
}

/** Where CUDA's packages are kept. @param cacheDir as in WorkerConfig */
export const cudaFolder = (cacheDir: string): string => path.join(cacheDir, 'cuda')

/** A package's folder, by everything that is in it. */
export function packageFolder(folder: string, { requirement, wheelSha256 }: CudaPackage): string {
  return path.join(folder, `${requirement.replaceAll('==', '-')}-${wheelSha256.slice(0, 16)}`)
}

/** Whether a package is there. Sizes are looked at, not contents: they are read once, when it is installed. */
export async function isInstalled(folder: string, wanted: CudaPackage): Promise<boolean> {
  const sizes = wanted.files.map(async ({ entry, bytes }) => {
    const found = await stat(path.join(packageFolder(folder, wanted), path.posix.basename(entry))).catch(() => undefined)
    return found?.size === bytes
  })
  return (await Promise.all(sizes)).every(Boolean)
}

/**
 * Installs what is missing, and says what that is and how large before it begins.
 * @throws ServingError `invalid_request` on a platform that has no packages, `source_unavailable` with the reason of pip or of a package
 * that is not what it should be, `client_closed` when stopped
 */
export async function installCuda(install: CudaInstall, deps: CudaInstallDeps): Promise<void> {
  const { folder, platform, arch } = install
  if (platform !== wheelTarget.platform || arch !== wheelTarget.arch) {
    throw new ServingError('invalid_request', `there are packages of CUDA for linux/x64, and this is ${platform}/${arch}`)
  }
  const packages = install.packages ?? neededPackages(deps.hasLibrary)
  const missing: CudaPackage[] = []
  for (const one of packages) if (!(await isInstalled(folder, one))) missing.push(one)
  if (missing.length === 0) {
    deps.say(`Everything is there: ${folder}`)
    return
  }
  const download = missing.reduce((sum, { wheelBytes }) => sum + wheelBytes, 0)
  const unpacked = missing.reduce((sum, { files }) => sum + files.reduce((own, { bytes }) => own + bytes, 0), 0)
  deps.say(
    `${missing.length} of ${packages.length} packages are missing: ${megabytes(download)} to download, ${megabytes(unpacked)} on disk`,
  )
  for (const one of missing) {
    deps.say(`  ${one.requirement} (${megabytes(one.wheelBytes)})`)
    await installPackage(one, install, deps)
  }
  deps.say(`Installed in ${folder}`)
}

/** NVIDIA's libraries are left out where the system has them: then a driver's package manager keeps them. */
export function neededPackages(hasLibrary: (name: string) => boolean): readonly CudaPackage[] {
  const isThere = ({ files }: CudaPackage) => files.every(({ entry }) => hasLibrary(path.posix.basename(entry)))
  return [providerPackage, ...libraryPackages.filter((one) => !isThere(one))]
}

async function installPackage(wanted: CudaPackage, install: CudaInstall, deps: CudaInstallDeps): Promise<void> {
  const place = packageFolder(install.folder, wanted)
  // The seal may be right where a file is not: a folder that was looked at and found wanting goes.
  await rm(place, { recursive: true, force: true })
  const stem = wanted.requirement.split('==')[0] ?? wanted.requirement
  const own = path.basename(place)
  await builtFolder({
    cacheDir: install.folder,
    name: own,
    isOutdated: (name) => name !== own && name.startsWith(`${stem}-`),
    build: (building) => fill(building, wanted, install, deps),
  })
}

async function fill(building: string, wanted: CudaPackage, install: CudaInstall, deps: CudaInstallDeps): Promise<void> {
  const { python, pipOptions = wheelTarget.pip } = install
  const { requirement, wheelName, wheelSha256, files } = wanted
  const label = requirement
  const progress = (phase: 'download' | 'build', done: number, total: number) =>
    deps.onProgress({ phase, label, done, total, unit: 'steps' })
  progress('download', 0, 1)
  await downloadWheel({ python, requirement, folder: building, options: pipOptions }, deps)
  const wheel = path.join(building, wheelName)
  const digest = await sha256OfFile(wheel, deps.signal).catch((cause: unknown) => {
    throwIfStopped(deps.signal)
    throw new ServingError('source_unavailable', `pip did not bring ${wheelName}`, {}, { cause })
  })
  if (digest !== wheelSha256) {
    throw new ServingError('source_unavailable', `${wheelName} has sha256 ${digest}, not ${wheelSha256}: it was not used`)
  }
  progress('download', 1, 1)
  const names = files.map(({ entry }) => path.posix.basename(entry))
  for (const [at, { entry }] of files.entries()) {
    progress('build', at, files.length)
    await withZipEntry(wheel, entry, (content) => writeHashed(content, path.join(building, names[at] as string), deps.signal))
  }
  await rm(wheel)
  await sealFolder(building, names)
  progress('build', files.length, files.length)
}

const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6).toLocaleString('en-US')} MB`
