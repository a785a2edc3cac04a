/** Opens what needs the libraries for Redis. They are loaded here and not before: that takes a while, and most servers run without. */
import type { RedisConnection, RedisDeps } from './redis-connection.ts'
import type { RedisJobQueue, RedisQueueDeps } from './redis-job-queue.ts'

/** As `connectRedis`. */
export async function openRedis(url: string, deps: RedisDeps): Promise<RedisConnection> {
  const { connectRedis } = await import('./redis-connection.ts')
  return connectRedis(url, deps)
}

export async function openRedisJobQueue(deps: RedisQueueDeps): Promise<RedisJobQueue> {
  const { RedisJobQueue } = await import('./redis-job-queue.ts')
  return new RedisJobQueue(deps)
}
