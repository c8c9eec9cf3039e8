// Runs named checks one after the other, 30 s each at most, and tells each one's result in a line.

export async function runChecks(checks) {
  let failed = 0;
  for (const [name, run] of Object.entries(checks)) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("took over 30 s")), 30000);
    });
    try {
      await Promise.race([run(), late]);
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.error(error);
      console.log(`not ok ${name}: ${error.message}`);
    } finally {
      clearTimeout(timer);
    }
  }
  process.exit(failed === 0 ? 0 : 1);
}
