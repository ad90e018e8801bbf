// Reads a conversation with its citations through the generated client: node conversation.cjs URL SESSION
const { PrismaPg } = require("@prisma/adapter-pg");
const { PrismaClient } = require("@prisma/client");

async function main([url, session]) {
  const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: url }) });
  const found = await prisma.chatSession.findUniqueOrThrow({
    where: { id: session },
    include: {
      user: { include: { profile: true } },
      messages: { orderBy: { seq: "asc" }, include: { citations: { orderBy: { citation_index: "asc" } } } },
    },
  });
  // BigInt has no JSON.
  console.log(JSON.stringify(found, (_, value) => (typeof value === "bigint" ? Number(value) : value)));
  await prisma.$disconnect();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
