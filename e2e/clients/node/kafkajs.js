// Talks to a Kafka cluster with KafkaJS for Klamm's tests; commands: ../README.md.
'use strict'

const readline = require('node:readline')

const { CompressionCodecs, CompressionTypes, Kafka, Partitioners, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')

CompressionCodecs[CompressionTypes.Snappy] = snappy

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
}
const ACKS = { all: -1, 1: 1, 0: 0 }
// Messages are handed over in batches of so many, each of which waits so long at most.
const BATCH_MESSAGES = 500
const BATCH_MS = 20
// With a pause of up to a second between them, they bound the life of a batch to about a minute.
const RETRIES = 60
const RETRY = { initialRetryTime: 100, maxRetryTime: 1000, retries: RETRIES }

function kafka(bootstrap) {
  return new Kafka({
    clientId: 'kafkajs',
    brokers: bootstrap.split(','),
    logLevel: logLevel.NOTHING,
    retry: RETRY,
  })
}

async function withAdmin(bootstrap, use) {
  const admin = kafka(bootstrap).admin()
  await admin.connect()
  try {
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

function createTopic(bootstrap, topic, partitions, replicas) {
  return withAdmin(bootstrap, async (admin) => {
    const created = await admin.createTopics({
      topics: [
        { topic, numPartitions: Number(partitions), replicationFactor: Number(replicas) },
      ],
    })
    if (!created) throw new Error(`topic ${topic} is there`)
  })
}

// Metadata creates a topic that is not there when the brokers are configured so.
async function mustExist(admin, topic) {
  if (!(await admin.listTopics()).includes(topic)) throw new Error(`no topic ${topic}`)
}

function describeTopic(bootstrap, topic) {
  return withAdmin(bootstrap, async (admin) => {
    await mustExist(admin, topic)
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    const partitions = topics[0].partitions.sort((a, b) => a.partitionId - b.partitionId)
    for (const { partitionId, leader, replicas, isr } of partitions) {
      console.log([partitionId, leader, replicas, isr].join('\t'))
    }
  })
}

function deleteTopic(bootstrap, topic) {
  return withAdmin(bootstrap, (admin) => admin.deleteTopics({ topics: [topic] }))
}

function listTopics(bootstrap) {
  return withAdmin(bootstrap, async (admin) => console.log((await admin.listTopics()).join('\n')))
}

function committed(bootstrap, topic, groupId) {
  return withAdmin(bootstrap, async (admin) => {
    const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
    for (const { partition, offset } of partitions) console.log(`${partition}\t${offset}`)
  })
}

function produce(bootstrap, topic, codec) {
  const options = { idempotent: true, maxInFlightRequests: 1, retry: RETRY }
  return send(bootstrap, topic, options, { acks: -1, compression: CODECS[codec] })
}

function produceAcks(bootstrap, topic, acks) {
  return send(bootstrap, topic, {}, { acks: ACKS[acks] })
}

async function send(bootstrap, topic, options, how) {
  const producer = kafka(bootstrap).producer({
    ...options,
    createPartitioner: Partitioners.DefaultPartitioner,
  })
  await producer.connect()
  let messages = []
  let last = Date.now()
  const flush = async () => {
    if (messages.length > 0) await producer.send({ topic, messages, ...how })
    messages = []
    last = Date.now()
  }
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const tab = line.indexOf('\t')
    if (tab < 0) throw new Error(`line without a tab: ${line}`)
    messages.push({ key: line.slice(0, tab), value: line.slice(tab + 1) })
    if (messages.length >= BATCH_MESSAGES || Date.now() - last >= BATCH_MS) await flush()
  }
  await flush()
  await producer.disconnect()
}

function print(partition, { offset, key, value }) {
  process.stdout.write(`${partition}\t${offset}\t${key}\t${value}\n`)
}

function stopSignal() {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, resolve)
  })
}

// KafkaJS reads in groups only: one of its own, from the offset on.
async function fetch(bootstrap, topic, partition, offset, count) {
  const groupId = `kafkajs-fetch-${process.pid}-${Date.now()}`
  const consumer = kafka(bootstrap).consumer({ groupId })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  let left = Number(count)
  await new Promise((resolve) => {
    consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition: from, message }) => {
        if (from !== Number(partition) || left === 0) return
        print(from, message)
        left -= 1
        if (left === 0) resolve()
      },
    })
    consumer.seek({ topic, partition: Number(partition), offset })
  })
  await consumer.disconnect()
}

async function member(bootstrap, topic, groupId) {
  const stopped = stopSignal()
  const consumer = kafka(bootstrap).consumer({ groupId })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    console.error(`assigned ${(payload.memberAssignment[topic] ?? []).length}`)
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    eachBatch: async ({ batch }) => {
      for (const message of batch.messages) print(batch.partition, message)
    },
  })
  await stopped
  await consumer.disconnect()
}

function version() {
  console.log(require('kafkajs/package.json').version)
}

const COMMANDS = {
  version,
  'create-topic': createTopic,
  'describe-topic': describeTopic,
  'delete-topic': deleteTopic,
  'list-topics': listTopics,
  committed,
  produce,
  'produce-acks': produceAcks,
  fetch,
  member,
}

const [bootstrap, command, ...rest] = process.argv.slice(2)
Promise.resolve(COMMANDS[command](bootstrap, ...rest)).then(
  () => process.exit(0),
  (error) => {
    console.error(error)
    process.exit(1)
  },
)
