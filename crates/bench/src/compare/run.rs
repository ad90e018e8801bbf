//! A competitor's run.

use std::sync::Arc;

use super::{
    competitor::Competitor, copy, direct::DirectForm, metric::Metric, pages::READERS, parts::ComparisonParts,
    select::PageForm,
};
use crate::{append::AppendMode, measure::Measurement, progress::BenchProgress};

/// What a run has found.
type Numbers = Vec<(Metric, f64)>;

impl ComparisonParts {
    /// Runs one of them.
    ///
    /// # Errors
    /// The server or the database, or an answer that isn't what it should be.
    pub(super) async fn measure(
        &mut self,
        competitor: Competitor,
        progress: &BenchProgress,
    ) -> anyhow::Result<Numbers> {
        use Competitor as C;
        match competitor {
            C::Direct(..) | C::Copy => self.by_hand(competitor).await,
            C::Unary | C::Stream | C::StreamWithCitations | C::LargeSession | C::EmptySession => {
                self.by_service(competitor, progress).await
            }
            C::LoneAppends => self.lone().await,
            C::LargeSessionLone => self.large_session_lone().await,
            C::List
            | C::Select
            | C::SelectTwoStatements
            | C::ListOf170
            | C::SelectJsonAgg
            | C::ListMany
            | C::SelectMany => self.page_rate(competitor).await,
            C::UncachedPages => {
                let [listed, selected] = self.uncached_pages().await?;
                Ok(vec![
                    (Metric::UncachedListP50, listed.millis(50.0)),
                    (Metric::UncachedSelectP50, selected.millis(50.0)),
                ])
            }
            C::Histories => self.histories().await,
            C::HistoriesWithCitations => self.histories_with_citations().await,
            C::Watch => self.watched(progress).await,
        }
    }

    /// Appends without the service.
    async fn by_hand(&mut self, competitor: Competitor) -> anyhow::Result<Numbers> {
        use DirectForm::{SingleStatement, Transaction};
        let clock = self.clock();
        let Competitor::Direct(form, connections) = competitor else {
            let rate = copy::rate(&self.database, &self.workload, clock, &self.halt).await?;
            return Ok(vec![(Metric::Copy, rate)]);
        };
        let metric = match (form, connections) {
            (Transaction, 8) => Metric::Direct8,
            (Transaction, 16) => Metric::Direct16,
            (Transaction, _) => Metric::Direct32,
            (SingleStatement, 8) => Metric::Single8,
            (SingleStatement, 16) => Metric::Single16,
            (SingleStatement, _) => Metric::Single32,
        };
        let rate = self
            .direct
            .rate(form, &self.workload, connections, clock, &self.halt);
        Ok(vec![(metric, rate.await?)])
    }

    /// Appends through it.
    async fn by_service(
        &mut self,
        competitor: Competitor,
        progress: &BenchProgress,
    ) -> anyhow::Result<Numbers> {
        use AppendMode::{Stream, Unary};
        let (metric, rate) = match competitor {
            Competitor::Unary => (
                Metric::Unary,
                self.appends(Unary, &self.workload, progress).await?,
            ),
            Competitor::Stream => (
                Metric::Stream,
                self.appends(Stream, &self.workload, progress).await?,
            ),
            Competitor::LargeSession => (
                Metric::AppendLarge,
                self.appends_to_one(self.large, progress).await?,
            ),
            Competitor::EmptySession => {
                let empty = self.new_session().await?;
                (Metric::AppendEmpty, self.appends_to_one(empty, progress).await?)
            }
            _ => (
                Metric::StreamWithCitations,
                self.appends(Stream, &self.cited, progress).await?,
            ),
        };
        Ok(vec![(metric, rate)])
    }

    /// Pages a second, and with many readers what they wait.
    async fn page_rate(&mut self, competitor: Competitor) -> anyhow::Result<Numbers> {
        let [pages, long] = [&self.read.pages, &self.read.long].map(Arc::clone);
        let (pages, long, many) = (&pages, &long, self.options.many_readers);
        let rate = |metric, measured: Measurement| Ok(vec![(metric, measured.throughput())]);
        let with_p99 = |metric, p99, measured: Measurement| {
            Ok(vec![
                (metric, measured.throughput()),
                (p99, measured.millis(99.0)),
            ])
        };
        match competitor {
            Competitor::ListOf170 => rate(Metric::ListOf170, self.pages(long, READERS).await?),
            Competitor::SelectJsonAgg => {
                let read = self.selected_pages(long, READERS, PageForm::JsonAgg).await?;
                rate(Metric::SelectJsonAgg, read)
            }
            Competitor::ListMany => with_p99(
                Metric::ListMany,
                Metric::ListManyP99,
                self.pages(pages, many).await?,
            ),
            Competitor::SelectMany => {
                let read = self.selected_pages(pages, many, PageForm::Lateral);
                with_p99(Metric::SelectMany, Metric::SelectManyP99, read.await?)
            }
            Competitor::SelectTwoStatements => {
                let read = self
                    .selected_pages(pages, READERS, PageForm::TwoStatements)
                    .await?;
                rate(Metric::SelectTwoStatements, read)
            }
            Competitor::Select => {
                let read = self.selected_pages(pages, READERS, PageForm::Lateral).await?;
                rate(Metric::Select, read)
            }
            _ => rate(Metric::List, self.pages(pages, READERS).await?),
        }
    }
}
